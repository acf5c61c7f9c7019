//! The cases to run, and their description for the Python side.

use crate::float::Float;
use crate::ops::{self, Op, Visit};
use crate::problem::{Problem, Shape};
use crate::{inputs, with_dtype};
use anyhow::Result;
use serde::Serialize;

/// Command-line options that choose the cases.
#[derive(Clone, Debug, clap::Args)]
pub struct Choice {
    /// Run only cases whose name, OP/DTYPE/SHAPE, contains TEXT; can be given several times.
    #[arg(long = "filter", value_name = "TEXT")]
    filters: Vec<String>,
    /// Run only two shapes of each op and few turns, as a test.
    #[arg(long)]
    pub quick: bool,
}

impl Choice {
    /// Returns the chosen types and shapes of an op.
    pub fn cases<O: Op>(&self) -> Vec<(&'static str, Shape)> {
        let shapes = &O::SHAPES[..if self.quick { O::SHAPES.len().min(2) } else { O::SHAPES.len() }];
        let all = shapes.iter().flat_map(|&shape| O::DTYPES.iter().map(move |&dtype| (dtype, shape)));
        all.filter(|&(dtype, shape)| {
            let name = format!("{}/{dtype}/{shape}", O::NAME);
            self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
        })
        .collect()
    }
}

/// Returns the number of leading rows that are checked.
pub fn checked<O: Op>(shape: Shape) -> usize {
    const ELEMENTS: usize = 1 << 15;
    (ELEMENTS / shape.cols()).clamp(1, O::RESULTS.rows(shape))
}

/// A case in the format of the Python side.
#[derive(Serialize)]
struct Case {
    op: &'static str,
    dtype: &'static str,
    shape: &'static [usize],
    inputs: &'static str,
    /// Digest of the input's bits.
    digest: String,
    /// Number of leading results to store.
    kept: usize,
}

/// Input of the Python side.
#[derive(Serialize)]
struct Plan<'a> {
    level: &'a str,
    /// Whether EVENKEEL_SIMD selected the instruction set. Otherwise the CPU determined it.
    forced: bool,
    quick: bool,
    cases: Vec<Case>,
}

/// Describes the chosen cases for the Python side, as JSON.
pub fn describe(choice: &Choice, level: &str) -> Result<String> {
    let mut list = List { choice, cases: Vec::new() };
    ops::each(&mut list)?;
    let forced = std::env::var("EVENKEEL_SIMD").is_ok_and(|level| level != "auto");
    Ok(serde_json::to_string_pretty(&Plan { level, forced, quick: choice.quick, cases: list.cases })?)
}

struct List<'a> {
    choice: &'a Choice,
    cases: Vec<Case>,
}

impl Visit for List<'_> {
    fn op<O: Op>(&mut self) -> Result<()> {
        for (dtype, shape) in self.choice.cases::<O>() {
            self.cases.push(with_dtype!(dtype, E => case::<O, E>(shape)));
        }
        Ok(())
    }
}

fn case<O: Op, E: Float>(shape: Shape) -> Case {
    let digest = inputs::digest(Problem::<E>::new(shape, O::INPUTS).x());
    Case {
        op: O::NAME,
        dtype: E::NAME,
        shape: shape.0,
        inputs: O::INPUTS.name(),
        digest: format!("{digest:016x}"),
        kept: kept::<O>(shape),
    }
}

/// Returns the number of leading results that are checked.
pub fn kept<O: Op>(shape: Shape) -> usize {
    checked::<O>(shape) * O::RESULTS.of_row(shape.cols())
}
