//! Just enough of Rust's grammar to tell code from what is written about it.

/// The text with comments and the content of literals replaced by spaces. Lines
/// and columns stay where they are, so that what is found can be reported.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let (length, blank) = match skipped(rest, in_word) {
            Some(length) => (length, true),
            None => (first.len_utf8(), false),
        };
        let (taken, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if blank {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            code.push_str(taken);
        }
        in_word = !blank && is_word(first);
        rest = left;
    }
    code
}

/// Whether a character can be part of a name.
pub(crate) fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// The length of the comment or literal that the text begins with.
fn skipped(text: &str, in_word: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if let Some(string) = text.strip_prefix('"') {
        return Some(1 + escaped(string, '"'));
    }
    if let Some(character) = text.strip_prefix('\'') {
        return quoted_character(character).map(|length| 1 + length);
    }
    if in_word { None } else { raw_string(text) }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length up to and with the closing quote.
fn escaped(text: &str, quote: char) -> usize {
    let mut escape = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escape => escape = false,
            '\\' => escape = true,
            _ if character == quote => return at + character.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal after its first quote; none for a lifetime.
fn quoted_character(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    match characters.next()? {
        '\\' => Some(escaped(text, '\'')),
        first => (characters.next()? == '\'').then_some(first.len_utf8() + 1),
    }
}

fn raw_string(text: &str) -> Option<usize> {
    let opening = ["br", "cr", "r"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let content = opening.trim_start_matches('#');
    let hashes = opening.len() - content.len();
    let content = content.strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = content.find(&closing).map_or(content.len(), |at| at + closing.len());
    Some(text.len() - content.len() + end)
}

/// How many lines are not in a module marked `#[cfg(test)]`.
pub(crate) fn lines_without_tests(text: &str) -> usize {
    let mut count = 0;
    let mut lines = text.lines().zip(code_only(text).lines().map(ToOwned::to_owned).collect::<Vec<_>>());
    while let Some((line, _)) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(lines.by_ref().map(|(_, code)| code));
        } else {
            count += 1;
        }
    }
    count
}

/// Passes over one item: up to a line that closes all braces, or ends a statement
/// before any was opened.
fn skip_item(lines: impl Iterator<Item = String>) {
    let (mut open, mut opened) = (0_usize, false);
    for code in lines {
        for character in code.chars() {
            match character {
                '{' => (open, opened) = (open + 1, true),
                '}' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        if open == 0 && (opened || code.contains(';')) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        code_only(text)
            .split(|c| !is_word(c))
            .filter(|word| !word.is_empty())
            .map(ToOwned::to_owned)
            .collect()
    }

    #[test]
    fn comments_are_not_code() {
        assert_eq!(
            words("one // two\nthree /* four /* five */ six */ seven /// eight"),
            ["one", "three", "seven"]
        );
        assert!(words("/* never closed").is_empty());
    }

    #[test]
    fn content_of_literals_is_not_code() {
        assert_eq!(words(r#"one("two \" three"), four"#), ["one", "four"]);
        assert_eq!(words("one(r\"two\\\", r#\"three \" four\"#, br##\"five\"# six\"##)"), ["one"]);
        assert_eq!(words(r"one('t', '\'', '\u{41}', 'é')"), ["one"]);
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(
            words("one<'two>(r#type: &'static str, bar: b)"),
            ["one", "two", "r", "type", "static", "str", "bar", "b"]
        );
    }

    #[test]
    fn lines_and_columns_stay() {
        let text = "a /* é\n ü */ b \"c\nd\" e";
        let code = code_only(text);
        assert_eq!(code.lines().count(), text.lines().count());
        for (line, original) in code.lines().zip(text.lines()) {
            assert_eq!(line.chars().count(), original.chars().count());
        }
    }

    #[test]
    fn test_modules_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() { '}'; \"}\"; }\n}\nfn c() {}\n";
        assert_eq!(lines_without_tests(text), 3);
        assert_eq!(lines_without_tests("fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n"), 2);
        assert_eq!(lines_without_tests("fn a() {}\n#[cfg(test)]\npub(crate) mod tests\n{\n}\n"), 1);
    }
}
