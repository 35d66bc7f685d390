//! A sealer for tests of the store: it binds a value to its place as the real one does,
//! and hides it only so far that it is not found by looking for it.

use domain::secret::Secret;
use store::credential::{Place, Sealed, Sealer, SealerError};

pub const FIRST: &str = "first";
pub const SECOND: &str = "second";

pub struct Plainly {
    pub bound: i64,
}

fn seal(master_key: &[u8], epoch: u32, place: Place, value: &[u8]) -> Vec<u8> {
    let head = format!("{} {epoch} {place} ", String::from_utf8_lossy(master_key)).into_bytes();
    head.into_iter().chain(value.iter().map(|byte| byte ^ 0x55)).collect()
}

impl Sealer for Plainly {
    fn epoch_bound(&self) -> i64 {
        self.bound
    }

    fn seal(&self, key: &[u8], epoch: u32, place: Place, value: &Secret) -> Result<Vec<u8>, SealerError> {
        if ![FIRST.as_bytes(), SECOND.as_bytes()].contains(&key) {
            return Err("the key is not known".into());
        }
        let sum = [value.reveal().iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte))];
        Ok(seal(key, epoch, place, &[value.reveal(), &sum].concat()))
    }

    fn open(&self, place: Place, sealed: &Sealed) -> Result<Secret, SealerError> {
        let head = seal(&sealed.master_key, sealed.epoch, place, b"");
        let hidden = sealed.bytes.strip_prefix(head.as_slice()).ok_or("it belongs elsewhere")?;
        let mut value: Vec<u8> = hidden.iter().map(|byte| byte ^ 0x55).collect();
        let sum = value.pop().ok_or("it is cut short")?;
        let same = value.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == sum;
        if same { Ok(Secret::new(value)) } else { Err("it was changed".into()) }
    }
}
