//! The page, the raw data and the picture of a set of runs.

mod chart;
mod errors;
mod page;
mod rows;
mod tsv;

use crate::record::Run;
use anyhow::{Context, Result};
use std::path::Path;

/// Writes the page, the raw data and the picture to the folder `docs`. Each run is paired with the folder of its result
/// files. Without runs, the raw data is read from `docs`.
pub fn write(mut runs: Vec<(Run, &Path)>, docs: &Path) -> Result<()> {
    std::fs::create_dir_all(docs).with_context(|| format!("can't make {}", docs.display()))?;
    let data = docs.join("compare.tsv");
    let levels = if runs.is_empty() {
        let text = std::fs::read_to_string(&data).with_context(|| format!("can't read {}", data.display()))?;
        tsv::parse(&text).with_context(|| format!("{} must contain the data of a comparison", data.display()))?
    } else {
        errors::fill(&mut runs)?;
        rows::levels(runs.into_iter().map(|(run, _)| run))
    };
    let save = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    };
    save(&data, tsv::table(&levels))?;
    save(&docs.join("README.md"), page::page(&levels))?;
    chart::draw(&docs.join("compare.svg"), &levels)
}
