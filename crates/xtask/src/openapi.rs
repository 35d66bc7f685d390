//! Keeps `docs/api/openapi.json` equal to what the handlers say.
//!
//! The controller writes the document itself, so this only compares and copies.

use std::{fs, io, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    process::{cargo, output},
    workspace::Workspace,
};

const FILE: &str = "docs/api/openapi.json";

/// Writes the file, or with `check` fails where it is not up to date.
pub(crate) fn run(workspace: &Workspace, check: bool) -> anyhow::Result<()> {
    let written =
        output(cargo(workspace).args(["run", "--quiet", "--package", "controller", "--", "openapi"]))?;
    let generated = normalise(&written)?;
    let path = workspace.root().join(FILE);
    let committed = read(&path)?;
    if committed == generated {
        println!("{FILE} is up to date");
        return Ok(());
    }
    if check {
        bail!(
            "{FILE} is not up to date; run `cargo xtask openapi`\n{}",
            first_difference(&committed, &generated)
        );
    }
    fs::create_dir_all(path.parent().unwrap_or(workspace.root()))?;
    fs::write(&path, generated).with_context(|| format!("cannot write {FILE}"))?;
    println!("{FILE} is written");
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.with_context(|| format!("cannot read {FILE}")),
    }
}

/// Refuses what is not JSON, and ends the text with one line feed.
fn normalise(text: &str) -> anyhow::Result<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).context("the controller did not write JSON")?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Where the two begin to differ.
fn first_difference(committed: &str, generated: &str) -> String {
    let (mut old, mut new) = (committed.lines(), generated.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                let shown = |line: Option<&str>| line.unwrap_or("(end of file)").to_owned();
                return format!("{FILE}:{number}:\n  - {}\n  + {}", shown(old), shown(new));
            }
        }
    }
    "only line ends differ".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_difference_is_shown_with_its_line() {
        let shown = first_difference("{\n  \"a\": 1\n}\n", "{\n  \"a\": 2\n}\n");
        assert_eq!(shown, "docs/api/openapi.json:2:\n  -   \"a\": 1\n  +   \"a\": 2");
        assert!(first_difference("", "{}\n").contains("- (end of file)\n  + {}"));
        assert_eq!(first_difference("{}\r\n", "{}\n"), "only line ends differ");
    }

    #[test]
    fn only_json_is_accepted_and_ends_with_one_line_feed() {
        assert_eq!(normalise("{}\n\n").unwrap(), "{}\n");
        assert_eq!(normalise("{}").unwrap(), "{}\n");
        normalise("error: no such command").unwrap_err();
    }
}
