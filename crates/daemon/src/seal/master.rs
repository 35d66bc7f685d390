//! The key that all others come from, and the file it lives in.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::{KEY_LEN, KeyId, SealingKey, derive};
use crate::files;

/// A file longer than this is not a key, and need not be read to its end.
const FILE_LIMIT: u64 = 1024;

/// Why a master key could not be made, read or kept. None of them tells anything
/// of the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("get random bytes for a key")]
    Random,
    /// The text is not the base64 of 32 bytes.
    #[error("read a key: it must be the base64 of exactly {KEY_LEN} bytes")]
    Malformed,
    /// There is no such file.
    #[error("find key file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// People other than the owner may read or write the file.
    #[error("trust key file {}: its mode is {mode:03o}, but only its owner may have access (chmod 600)", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is there but does not hold a key.
    #[error("read key file {}: it must hold the base64 of exactly {KEY_LEN} bytes", path.display())]
    MalformedFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, and is not overwritten.
    #[error("create key file {}: it exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read or written.
    #[error("use key file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// 32 random bytes from which [`SealingKey`]s are derived. Wiped when dropped.
pub struct MasterKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl MasterKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`], which in practice does not come.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Self::empty();
        SystemRandom::new().fill(key.0.as_mut_slice()).map_err(|_| KeyError::Random)?;
        Ok(key)
    }

    /// Reads a key from base64 (standard alphabet, padded); space around it does
    /// not matter.
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`], also where the length is wrong.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        // The decoder's own error quotes the text, so it goes no further. It wants
        // room for what the text could hold at most, hence the buffer.
        let mut decoded = Zeroizing::new([0; KEY_LEN + 4]);
        let length = STANDARD
            .decode_slice(text.trim().as_bytes(), decoded.as_mut_slice())
            .map_err(|_| KeyError::Malformed)?;
        let bytes =
            decoded.get(..length).filter(|bytes| bytes.len() == KEY_LEN).ok_or(KeyError::Malformed)?;
        let mut key = Self::empty();
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// Reads the key that [`MasterKey::create`] wrote.
    ///
    /// # Errors
    ///
    /// Refuses a file that group or others have any access to, and one that does
    /// not hold the base64 of 32 bytes.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
            _ => KeyError::Io { path: path.to_owned(), source: error },
        };
        let opened = File::open(path).map_err(file)?;
        // Asked of the open file, so that what is checked is what is read.
        let mode = opened.metadata().map_err(file)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_LIMIT as usize));
        match opened.take(FILE_LIMIT).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(file(error)),
            _ => Self::from_base64(&text).map_err(|_| KeyError::MalformedFile { path: path.to_owned() }),
        }
    }

    /// Makes a new key and keeps it in a file that only the owner can read. On
    /// return the file is durable: nothing is ever sealed with a key that a power
    /// cut could take away.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`] where the file is there; it is not touched.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let key = Self::generate()?;
        let mut text = Zeroizing::new(STANDARD.encode(key.0.as_slice()));
        text.push('\n');
        files::write_exclusive(path, text.as_bytes(), 0o600).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::Io { path: path.to_owned(), source: error },
        })?;
        Ok(key)
    }

    /// Names this key, without telling anything about it.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.derive("master").id()
    }

    /// The key for one purpose. The same purpose always gives the same key; no
    /// key tells anything about another or about the master key. Purposes are
    /// constants of the program, or contain an id: never leave them to a user.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> SealingKey {
        #[expect(
            clippy::expect_used,
            reason = "fails only for lengths that are wrong, and ours are constants"
        )]
        derive(&self.0, purpose).expect("lengths fit HKDF-SHA256 and AES-256")
    }

    /// 32 bytes for one purpose that is not sealing, such as a key of HMAC. The same
    /// purpose always gives the same bytes, and never those of a [`SealingKey`].
    #[must_use]
    pub fn derive_bytes(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
        #[expect(
            clippy::expect_used,
            reason = "fails only for lengths that are wrong, and ours are constants"
        )]
        super::derive_bytes(&self.0, purpose).expect("the length fits HKDF-SHA256")
    }

    fn empty() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_LEN])))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn with_mode(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn refusal(result: Result<MasterKey, KeyError>) -> KeyError {
        match result {
            Ok(_) => panic!("the key was accepted"),
            Err(error) => error,
        }
    }

    fn id(key: &MasterKey) -> crate::seal::KeyId {
        key.derive("tests").id()
    }

    #[test]
    fn created_key_is_private_and_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let created = MasterKey::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(id(&MasterKey::load(&path).unwrap()), id(&created));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(id(&MasterKey::from_base64(&text).unwrap()), id(&created));
    }

    #[test]
    fn existing_key_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let created = MasterKey::create(&path).unwrap();
        assert!(matches!(refusal(MasterKey::create(&path)), KeyError::Exists { .. }));
        assert_eq!(id(&MasterKey::load(&path).unwrap()), id(&created));
    }

    #[test]
    fn key_that_others_have_access_to_is_refused() {
        let text = STANDARD.encode([7; KEY_LEN]);
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
            let (_dir, path) = with_mode(text.as_bytes(), mode);
            let error = refusal(MasterKey::load(&path));
            assert!(matches!(error, KeyError::Exposed { mode: told, .. } if told == mode), "{error}");
        }
        for mode in [0o600, 0o400] {
            let (_dir, path) = with_mode(text.as_bytes(), mode);
            MasterKey::load(&path).unwrap();
        }
    }

    #[test]
    fn file_without_a_key_is_refused() {
        let contents = [
            Vec::new(),
            STANDARD.encode([7; 31]).into(),
            STANDARD.encode([7; 33]).into(),
            vec![0xff; 32],
            vec![b'A'; 5000],
        ];
        for content in contents {
            let (_dir, path) = with_mode(&content, 0o600);
            assert!(matches!(refusal(MasterKey::load(&path)), KeyError::MalformedFile { .. }));
        }
    }

    #[test]
    fn missing_file_is_told_apart_from_an_unreadable_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(refusal(MasterKey::load(&dir.path().join("none"))), KeyError::Missing { .. }));
        let (_dir, path) = with_mode(b"", 0o600);
        assert!(matches!(refusal(MasterKey::load(&path.join("below"))), KeyError::Io { .. }));
    }

    #[test]
    fn malformed_keys_are_refused_without_showing_them() {
        let right = STANDARD.encode([7; KEY_LEN]);
        for text in
            [right.replace('=', ""), right.replace("Bw", "!?"), format!("{right}{right}"), "hunter2".into()]
        {
            let error = refusal(MasterKey::from_base64(&text));
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, KeyError::Malformed), "{shown}");
            assert!(!shown.contains(&text), "{shown}");
        }
        MasterKey::from_base64(&format!(" {right}\n")).unwrap();
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(id(&MasterKey::generate().unwrap()), id(&MasterKey::generate().unwrap()));
    }
}
