//! The text that the model learns: sentences of this repository's documentation.

use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The pages that are read whole; of sources, the comments that document.
const PAGES: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// The text as it was when the committed weights were made: the same weights come of it, however sources change.
pub const COMMITTED: &str = include_str!("corpus.txt");

/// One paragraph a line, each once: what is written in sentences, without code, tables, headings and markup.
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
    ensure!(!text.is_empty(), "there is no text below {}", root.display());
    Ok(text)
}

/// The sources of a folder and of those within it, by name.
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

/// What a line says as documentation; nothing if it is code.
fn comment(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("//!").or_else(|| line.strip_prefix("///")).unwrap_or_default()
}

/// Paragraphs and items of lists, each on one line.
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

/// Whether a line begins an item of a list, and what follows its marker.
fn without_marker(line: &str) -> (bool, &str) {
    let numbered = line.split_once(". ").filter(|(number, _)| number.parse::<u8>().is_ok()).map(|(_, rest)| rest);
    match line.strip_prefix("- ").or(numbered) {
        Some(rest) => (true, rest),
        None => (false, line),
    }
}

/// A paragraph without markup: of links, what they are called; of paths, what is not the same in all.
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

/// Whether a line reads as sentences: some words, a full stop, and few signs that are no letters.
fn is_prose(line: &str) -> bool {
    let letters = line.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').count();
    line.split_whitespace().count() >= 5
        && line.ends_with(['.', ':', '?', '!'])
        && letters * 100 >= line.chars().count() * 88
}
