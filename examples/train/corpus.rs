//! Training text: sentences of this repository's documentation.

use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Pages that are read as a whole. Source files contribute their doc comments.
const PAGES: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// Text that the committed weights were trained on. It is stored so that later changes of the documentation do not
/// change the weights.
pub const COMMITTED: &str = include_str!("corpus.txt");

/// Collects the prose below `root`, without code, tables, headings and markup. Each paragraph is one line, and
/// duplicates are dropped.
pub fn collect(root: &Path) -> Result<String> {
    let mut files = PAGES.map(|page| root.join(page)).to_vec();
    sources(&root.join("src"), &mut files)?;
    let (mut text, mut seen) = (String::new(), HashSet::new());
    for file in files {
        let content = std::fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        let source = file.extension().is_some_and(|extension| extension == "rs");
        let lines: Vec<&str> = if source { content.lines().map(comment).collect() } else { content.lines().collect() };
        for paragraph in paragraphs(&lines) {
            if is_prose(&paragraph) && seen.insert(paragraph.clone()) {
                text.push_str(&paragraph);
                text.push('\n');
            }
        }
    }
    ensure!(!text.is_empty(), "there is no documentation text below {}", root.display());
    Ok(text)
}

/// Adds the Rust files of a folder and its subfolders, sorted by path.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Returns the text of a doc comment line, or an empty string for any other line.
fn comment(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("//!").or_else(|| line.strip_prefix("///")).unwrap_or_default()
}

/// Returns paragraphs and list items, each joined to one line.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let (mut done, mut open, mut code) = (Vec::new(), String::new(), false);
    for line in lines.iter().map(|line| line.trim()) {
        let fence = line.starts_with("```");
        code ^= fence;
        if code || fence || line.is_empty() || line.starts_with(['|', '#', '<']) {
            done.push(std::mem::take(&mut open));
            continue;
        }
        let (item, line) = without_marker(line);
        if item {
            done.push(std::mem::take(&mut open));
        }
        if !open.is_empty() {
            open.push(' ');
        }
        open.push_str(line);
    }
    done.push(open);
    done.iter().filter(|paragraph| !paragraph.is_empty()).map(|paragraph| plain(paragraph)).collect()
}

/// Returns whether a line starts a list item, and the text after the marker.
fn without_marker(line: &str) -> (bool, &str) {
    let numbered = line.split_once(". ").filter(|(number, _)| number.parse::<u8>().is_ok()).map(|(_, rest)| rest);
    match line.strip_prefix("- ").or(numbered) {
        Some(rest) => (true, rest),
        None => (false, line),
    }
}

/// Returns a paragraph without markup. Links are reduced to their text, and `crate::` is removed from paths.
fn plain(paragraph: &str) -> String {
    let (mut text, mut rest) = (String::new(), paragraph);
    while let Some(at) = rest.find(['[', ']', '`', '*', '\\']) {
        text.push_str(&rest[..at]);
        let link = rest[at..].strip_prefix("](").and_then(|link| link.split_once(')'));
        rest = match link {
            Some((_, rest)) => rest,
            None => &rest[at + 1..],
        };
    }
    text.push_str(rest);
    text.replace("crate::", "")
}

/// Returns whether a line is prose: at least 5 words, a final punctuation mark, and at least 88 % letters and spaces.
fn is_prose(line: &str) -> bool {
    let letters = line.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').count();
    line.split_whitespace().count() >= 5
        && line.ends_with(['.', ':', '?', '!'])
        && letters * 100 >= line.chars().count() * 88
}
