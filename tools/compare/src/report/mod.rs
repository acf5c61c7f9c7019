//! The page, the table for programs, and the picture of a set of runs.

mod chart;
mod errors;
mod page;
mod rows;
mod summary;
mod tsv;

use crate::record::Run;
use anyhow::{Context, Result};
use std::path::Path;

/// Writes all three. Each run comes with the folder of the files that it names.
pub fn write(mut runs: Vec<(Run, &Path)>, docs: &Path) -> Result<()> {
    errors::fill(&mut runs)?;
    let levels = rows::levels(runs.into_iter().map(|(run, _)| run));
    std::fs::create_dir_all(docs).with_context(|| format!("can't make {}", docs.display()))?;
    let save = |name: &str, text: String| {
        let path = docs.join(name);
        std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
    };
    save("README.md", page::page(&levels))?;
    save("compare.tsv", tsv::table(&levels))?;
    chart::draw(&docs.join("compare.svg"), &levels)
}
