//! Copies functions and types from an engine's source file, for the build scripts of `candle_vllm` and `vllm_rs`. The
//! tests then need not compile the whole engine.

use std::path::Path;

/// Finds the item that begins with each of the texts `heads`, such as `fn sample`. Returns the source of these items,
/// without attributes and documentation. A text without an item is ignored.
pub fn items(file: impl AsRef<Path>, heads: &[&str]) -> String {
    let file = file.as_ref().display();
    println!("cargo::rerun-if-changed={file}");
    let text = std::fs::read_to_string(file.to_string()).unwrap();
    heads.iter().filter_map(|head| item(&text, head)).collect()
}

/// Returns the source of one item. The item ends at the first closing brace with the indentation of its first line.
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
