//! Builds the agent that is handed out: one static file, which needs nothing of the
//! host it runs on.
//!
//! The gnu target with its C library linked in (`+crt-static`), since a musl target
//! is not everywhere where this is built. The target is named, so that the flag
//! holds for the program only: build scripts and procedural macros cannot be static.
//! What comes out is looked at as a host would: no interpreter, no shared library,
//! not too large, and it runs in a root directory that has nothing else in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    process::{cargo, output, succeed},
    workspace::Workspace,
};

const PROGRAM: &str = "automator67-agent";
/// No more than this goes over a slow line to each of many hosts.
const SIZE_MAX_BYTES: u64 = 12_000_000;
/// Program headers that name a dynamic loader, and what it would have to load.
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
/// Dynamic entry that names a library; a static program that may be loaded anywhere
/// has a dynamic section, too, for its own relocations.
const DT_NEEDED: u64 = 1;

/// Builds it, checks it, and puts it to `deploy/bin`, beside its SHA-256.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let target = target()?;
    let mut build = cargo(workspace);
    build
        .args(["build", "--locked", "--profile", "dist", "--target", &target, "--package", "node-agent"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    succeed(&mut build)?;
    let built = workspace.target().join(&target).join("dist").join(PROGRAM);
    let file = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    check_size(file.len() as u64)?;
    check_static(&file).with_context(|| format!("{} needs something of its host", built.display()))?;
    let version = check_starts(&built)?;
    let place = put(workspace, &built)?;
    println!("{}: {version}, static, {} bytes", place.display(), file.len());
    Ok(())
}

/// What this machine builds for, with the C library that can be linked in.
fn target() -> anyhow::Result<String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    ensure!(host.ends_with("-linux-gnu"), "static agents are built on Linux with glibc, not on {host}");
    Ok(host.to_owned())
}

fn check_size(bytes: u64) -> anyhow::Result<()> {
    ensure!(bytes <= SIZE_MAX_BYTES, "the agent has {bytes} bytes, and may have {SIZE_MAX_BYTES}");
    Ok(())
}

/// Fails where an ELF file of 64 bits, little-endian, asks for a loader or a library.
fn check_static(file: &[u8]) -> anyhow::Result<()> {
    ensure!(file.get(..6) == Some(b"\x7fELF\x02\x01"), "it is no ELF file of 64 bits, little-endian");
    let (table, size, count) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    for index in 0..count {
        let header = table + index * size;
        let kind = u32::try_from(number(file, header, 4)?)?;
        if kind == PT_INTERP {
            bail!("it names a dynamic loader");
        }
        if kind == PT_DYNAMIC {
            let (start, length) = (number(file, header + 8, 8)?, number(file, header + 32, 8)?);
            for entry in (0..length / 16).map(|entry| start + entry * 16) {
                ensure!(number(file, entry, 8)? != DT_NEEDED, "it names a shared library");
            }
        }
    }
    Ok(())
}

/// An unsigned number of up to eight bytes.
fn number(file: &[u8], at: u64, length: u64) -> anyhow::Result<u64> {
    let start = usize::try_from(at)?;
    let bytes = file.get(start..start.saturating_add(usize::try_from(length)?)).context("it is cut off")?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Runs it where there is nothing but itself. That takes root; without, it is run as
/// it is.
fn check_starts(built: &Path) -> anyhow::Result<String> {
    let bare = Bare::new(built)?;
    let root = output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if root {
        let mut command = Command::new("chroot");
        command.arg(&bare.0).arg(format!("/{PROGRAM}"));
        command
    } else {
        Command::new(bare.0.join(PROGRAM))
    };
    // Nothing of ours but where chroot itself is found.
    command.arg("--version").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let said = output(&mut command)?;
    ensure!(said.starts_with(PROGRAM), "it says {said:?} instead of its version");
    Ok(said.trim().to_owned())
}

/// A directory with the program in it; goes away with this value.
struct Bare(PathBuf);

impl Bare {
    fn new(built: &Path) -> anyhow::Result<Self> {
        let dir = Self(built.with_file_name(format!("bare.{}", std::process::id())));
        fs::create_dir(&dir.0)?;
        fs::copy(built, dir.0.join(PROGRAM))?;
        Ok(dir)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // What is left over in the build directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies it to where installers take it from; by rename, as an old one may run.
fn put(workspace: &Workspace, built: &Path) -> anyhow::Result<PathBuf> {
    let dir = workspace.root().join("deploy/bin");
    fs::create_dir_all(&dir)?;
    let (place, new) = (dir.join(PROGRAM), dir.join(format!("{PROGRAM}.new")));
    fs::copy(built, &new)?;
    fs::rename(&new, &place)?;
    let sum = output(Command::new("sha256sum").arg(PROGRAM).current_dir(&dir))?;
    fs::write(dir.join(format!("{PROGRAM}.sha256")), sum)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these program headers, of which a dynamic one has this one entry.
    fn elf(kinds: &[u32], tag: u64) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(64, 0);
        file[32] = 64;
        file[54] = 56;
        file[56] = u8::try_from(kinds.len()).unwrap();
        let end = 64 + 56 * kinds.len() as u64;
        for kind in kinds {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&end.to_le_bytes());
            header[32..40].copy_from_slice(&16_u64.to_le_bytes());
            file.extend(header);
        }
        file.extend(tag.to_le_bytes());
        file.extend([0; 8]);
        file
    }

    #[test]
    fn a_program_that_asks_for_nothing_is_static() {
        assert!(check_static(&elf(&[1, 1], 0)).is_ok());
        // One that may be loaded anywhere relocates itself.
        assert!(check_static(&elf(&[1, PT_DYNAMIC], 7)).is_ok());
    }

    #[test]
    fn a_loader_or_a_library_is_found_and_what_is_no_program_is_refused() {
        let said = |file: &[u8]| check_static(file).unwrap_err().to_string();
        assert!(said(&elf(&[1, PT_INTERP], 0)).contains("loader"));
        assert!(said(&elf(&[PT_DYNAMIC], DT_NEEDED)).contains("library"));
        assert!(said(b"#!/bin/sh").contains("no ELF"));
        assert!(said(&elf(&[1], 0)[..66]).contains("cut off"));
    }

    #[test]
    fn a_program_that_is_too_large_is_refused() {
        assert!(check_size(SIZE_MAX_BYTES).is_ok());
        assert!(check_size(SIZE_MAX_BYTES + 1).is_err());
    }

    #[test]
    fn this_test_itself_is_not_static() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(check_static(&own).is_err());
    }
}
