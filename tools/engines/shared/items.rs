//! Copies functions and types from a source file of an engine into a build, so that their tests need not compile the
//! whole engine.

use std::path::Path;

/// Returns the items that begin with these words, such as `fn sample`, without attributes and documentation. Items that
/// the file does not have are left out.
pub fn items(file: impl AsRef<Path>, heads: &[&str]) -> String {
    let file = file.as_ref().display();
    println!("cargo::rerun-if-changed={file}");
    let text = std::fs::read_to_string(file.to_string()).unwrap();
    heads.iter().filter_map(|head| item(&text, head)).collect()
}

/// An item ends with the first closing brace that is indented like its first line.
fn item(text: &str, head: &str) -> Option<String> {
    let begins = |line: &&str| {
        let line = line.trim_start();
        let rest = line.strip_prefix("pub ").unwrap_or(line).strip_prefix(head);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let mut lines = text.lines().skip_while(|line| !begins(line)).peekable();
    let first = lines.peek()?;
    let end = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
    let mut item = String::new();
    for line in lines {
        item += line;
        item += "\n";
        if line == end {
            return Some(item);
        }
    }
    None
}
