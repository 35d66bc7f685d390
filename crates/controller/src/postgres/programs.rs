//! Finding PostgreSQL's own programs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{EmbeddedError, account::Account, process};

/// The oldest major version that our SQL is written for.
pub(super) const OLDEST_MAJOR: u32 = 14;
/// Where Debian and its descendants keep one directory for each major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// A directory with `postgres` and `initdb` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

/// What is looked for: the configured directory, and the version of the cluster
/// that is already there.
pub(super) struct Wanted<'a> {
    pub(super) bin_dir: Option<&'a Path>,
    pub(super) cluster: &'a Path,
    pub(super) cluster_major: Option<u32>,
}

impl Programs {
    /// The newest usable programs, or those that fit the existing cluster.
    pub(super) fn find(wanted: &Wanted<'_>, account: Option<Account>) -> Result<Self, EmbeddedError> {
        let dirs = match wanted.bin_dir {
            Some(dir) => vec![dir.to_owned()],
            None => usual_dirs(Path::new(DEBIAN_ROOT), std::env::var_os("PATH").as_deref()),
        };
        let mut found: Vec<Self> = dirs.iter().filter_map(|dir| Self::examine(dir, account)).collect();
        found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
        pick(found, wanted)
    }

    /// Asks the programs in `dir` for their version; `None` if they are not complete
    /// or do not run.
    fn examine(dir: &Path, account: Option<Account>) -> Option<Self> {
        if !["postgres", "initdb"].iter().all(|name| is_program(&dir.join(name))) {
            return None;
        }
        let output = process::command(&dir.join("postgres"), account).arg("--version").output();
        match output {
            Ok(output) => {
                let major = major_in(&String::from_utf8_lossy(&output.stdout))?;
                Some(Self { dir: dir.to_owned(), major })
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "postgresql programs do not run");
                None
            }
        }
    }

    /// A command that runs one of the programs under `account`.
    pub(super) fn command(&self, name: &str, account: Option<Account>) -> Command {
        process::command(&self.dir.join(name), account)
    }
}

fn pick(found: Vec<Programs>, wanted: &Wanted<'_>) -> Result<Programs, EmbeddedError> {
    let majors: Vec<u32> = found.iter().map(|programs| programs.major).collect();
    let fitting = found.into_iter().find(|programs| match wanted.cluster_major {
        Some(major) => programs.major == major,
        None => programs.major >= OLDEST_MAJOR,
    });
    match (fitting, wanted.cluster_major, majors.is_empty()) {
        (Some(programs), ..) => Ok(programs),
        (None, Some(cluster), false) => Err(EmbeddedError::OtherMajor {
            path: wanted.cluster.to_owned(),
            cluster,
            found: majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        }),
        _ => Err(EmbeddedError::NoPrograms {
            looked_in: match wanted.bin_dir {
                Some(dir) => dir.display().to_string(),
                None => format!("{DEBIAN_ROOT}/*/bin and PATH"),
            },
        }),
    }
}

/// Debian's directories and those on `path`, links resolved, each once. Debian has
/// only `postgres` linked into the path in some images, and `initdb` beside it.
fn usual_dirs(debian: &Path, path: Option<&std::ffi::OsStr>) -> Vec<PathBuf> {
    let debian =
        fs::read_dir(debian).into_iter().flatten().flatten().map(|entry| entry.path().join("bin/postgres"));
    let on_path = path.into_iter().flat_map(std::env::split_paths).map(|dir| dir.join("postgres"));
    let mut dirs = Vec::new();
    for program in debian.chain(on_path) {
        let resolved = fs::canonicalize(&program).ok();
        if let Some(dir) = resolved.as_deref().and_then(Path::parent)
            && !dirs.iter().any(|known| known == dir)
        {
            dirs.push(dir.to_owned());
        }
    }
    dirs
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The major version in the answer to `--version`: `postgres (PostgreSQL) 15.18 (Debian …)`,
/// `17rc1` and `16devel` included.
fn major_in(answer: &str) -> Option<u32> {
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(majors: &[u32]) -> Vec<Programs> {
        majors.iter().map(|&major| Programs { dir: PathBuf::from(format!("/{major}")), major }).collect()
    }

    fn picked(majors: &[u32], cluster_major: Option<u32>) -> Result<u32, String> {
        let wanted = Wanted { bin_dir: None, cluster: Path::new("/data/cluster"), cluster_major };
        pick(programs(majors), &wanted).map(|p| p.major).map_err(|e| e.to_string())
    }

    #[test]
    fn versions_are_read_from_every_form_of_the_answer() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 17rc1"), Some(17));
        assert_eq!(major_in("postgres (PostgreSQL) 16devel"), Some(16));
        assert_eq!(major_in("something else 15"), None);
        assert_eq!(major_in(""), None);
    }

    #[test]
    fn the_newest_is_taken_for_a_new_cluster_and_the_same_for_an_old_one() {
        assert_eq!(picked(&[17, 15, 14], None), Ok(17));
        assert_eq!(picked(&[17, 15, 14], Some(15)), Ok(15));
    }

    #[test]
    fn too_old_programs_count_as_none() {
        let message = picked(&[13], None).unwrap_err();
        assert!(message.contains("apt-get install postgresql"), "{message}");
        assert!(picked(&[], Some(15)).unwrap_err().contains("apt-get install postgresql"));
    }

    #[test]
    fn a_cluster_of_another_version_is_refused_with_what_to_do() {
        let message = picked(&[17, 16], Some(15)).unwrap_err();
        for part in ["/data/cluster", "PostgreSQL 15", "17, 16", "postgresql-15", "pg_upgrade"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_directory_of_the_real_program() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("16/bin");
        let links = dir.path().join("links");
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(&links).unwrap();
        fs::write(real.join("postgres"), "").unwrap();
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).unwrap();
        let path = std::env::join_paths([&links, &real]).unwrap();
        let real = fs::canonicalize(&real).unwrap();
        assert_eq!(usual_dirs(Path::new("/nowhere"), Some(&path)), vec![real.clone()]);
        assert_eq!(usual_dirs(dir.path(), None), vec![real]);
    }
}
