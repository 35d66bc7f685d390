//! Lists files that have grown long. It informs and does not fail: whether a
//! file should be split is for people to say.

use std::path::Path;

use crate::{source::lines_without_tests, workspace::Workspace};

/// Lines above which a file is listed.
const LIMIT: usize = 400;

/// Prints the files above the limit, the longest first.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let sources = workspace.sources()?;
    let long = above_limit(sources.iter().map(|(path, text)| (path.as_path(), text.as_str())));
    for (lines, path) in &long {
        println!("{lines:5}  {}", path.display());
    }
    println!("{} files have more than {LIMIT} lines that are not tests", long.len());
    Ok(())
}

fn above_limit<'a>(sources: impl Iterator<Item = (&'a Path, &'a str)>) -> Vec<(usize, &'a Path)> {
    let mut long: Vec<_> = sources
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (lines_without_tests(text), path))
        .filter(|(lines, _)| *lines > LIMIT)
        .collect();
    long.sort_by(|one, other| other.cmp(one));
    long
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_listed_longest_first_and_tests_are_not() {
        let (short, long, longer) = ("x\n".repeat(400), "x\n".repeat(401), "x\n".repeat(500));
        let tested = format!("{short}#[cfg(test)]\nmod tests {{\n{longer}}}\n");
        let sources = [
            ("a/src/short.rs", &short),
            ("a/src/long.rs", &long),
            ("a/src/longer.rs", &longer),
            ("a/src/tested.rs", &tested),
            ("a/tests/all.rs", &longer),
            ("a/src/room/tests.rs", &longer),
        ];
        let listed = above_limit(sources.iter().map(|(path, text)| (Path::new(*path), text.as_str())));
        assert_eq!(listed, [(500, Path::new("a/src/longer.rs")), (401, Path::new("a/src/long.rs"))]);
    }
}
