//! Sampling from one rank's shard of a row, between exchanges with other ranks. Masses are the same integers as in the
//! unsharded row.

mod exchange;
mod task;

pub use super::search::BUCKETS;
pub use exchange::NextRound;
pub use task::{SampleFloat, Task};

use super::candidates::Candidates;
use super::scale::Scale;
use super::search::Search;
use super::{OP, heat};
use crate::cpu::scores::LogitTransform;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::sampler::{Adjustments, Feedback, Filter, History, LogitSliceMut, Request, Sampled};
use std::ops::Range;

/// Maximum number of candidates that are gathered from all ranks instead of being filtered on the shards.
pub const FEW: usize = 1024;

/// Converts elements to another type. The type must represent the elements exactly.
fn converted<E: Element, S: Element>(x: &[E]) -> Vec<S> {
    x.iter().map(|z| S::from_wide(z.widen())).collect()
}

/// Shard of a row: the tokens whose columns this rank holds.
pub struct ShardedRow<'a, S> {
    pub row: usize,
    /// Transform that applies the mask to the logits; `None` if there is no mask, or once the mask is applied.
    scores: Option<LogitTransform<'a>>,
    request: Request<'a>,
    /// Filters that have not run yet.
    filters: &'a [Filter],
    columns: Range<usize>,
    z: Vec<S>,
    maxima: Vec<f32>,
    candidates: Candidates<S>,
    scale: Scale,
    /// Mass of all tokens before filtering, if a filter needs it.
    total: u64,
    /// True if a filter has run, or if the candidates are only the tokens with a logit of +inf.
    is_cut: bool,
    /// For each rank, in order of columns: the number of remaining candidates, and the mass of these candidates.
    census: Option<Vec<[u64; 2]>>,
    searches: Vec<Search>,
    /// Minimum mass at which a token is kept regardless of the searches. [`u64::MAX`] disables this rule.
    least: u64,
    /// Number of candidates on the ranks with lower columns, and the mass of these candidates.
    before: [u64; 2],
    drawn: Drawn,
    /// Words to exchange with other ranks after the latest task.
    pub words: Vec<u64>,
    /// Result of the draw, once it is done.
    pub sampled: Option<Sampled>,
}

impl<'a, S: SampleFloat> ShardedRow<'a, S> {
    /// Creates the shard of a row from its columns in the range `columns`. `all` is the number of columns in the row.
    /// Applies the adjustments of the request.
    ///
    /// The adjustments are computed in f64 for f64 logits and in f32 for others, regardless of the type `S`.
    pub fn new<E: Element>(
        (row, x): (usize, &[E]),
        scores: Option<LogitTransform<'a>>,
        request: Request<'a>,
        (columns, all): (Range<usize>, usize),
        history: &mut History,
    ) -> Result<Self> {
        let (config, plan, step) = request.parts();
        let (temperature, filters) = heat(&plan.filters);
        can_run(row, filters)?;
        if let Some((argument, value)) = plan.feedback.map(Feedback::parameter) {
            return Err(Error::invalid_in_row(OP, argument, row, value, "left unset for a sharded vocabulary"));
        }
        let z: Vec<S> = match Adjustments::new(config, step) {
            None => converted(x),
            Some(adjustments) if E::IS_F64 => {
                let mut z: Vec<f64> = converted(x);
                adjustments.apply(row, LogitSliceMut { logits: &mut z, first: columns.start, all }, history)?;
                converted(&z)
            }
            Some(adjustments) => {
                let mut z: Vec<f32> = converted(x);
                adjustments.apply(row, LogitSliceMut { logits: &mut z, first: columns.start, all }, history)?;
                converted(&z)
            }
        };
        Ok(ShardedRow {
            row,
            scores,
            request,
            filters,
            columns,
            z,
            maxima: Vec::new(),
            candidates: Candidates::default(),
            scale: Scale::new(0.0, temperature, all),
            total: 0,
            is_cut: false,
            census: None,
            searches: Vec::new(),
            least: u64::MAX,
            before: [0; 2],
            drawn: Drawn { token: 0, logit: 0.0, rest: 0.0 },
            words: Vec::new(),
            sampled: None,
        })
    }

    /// Sums one number over all ranks: the count of candidates if `of` is 0, their mass if `of` is 1.
    fn sum(&self, of: usize) -> u64 {
        self.census.iter().flatten().map(|rank| rank[of]).sum()
    }

    fn count(&self) -> usize {
        self.sum(0) as usize
    }

    fn mass(&self) -> u64 {
        self.sum(1)
    }

    /// Number of words for one candidate.
    const WORDS: usize = if matches!(S::DTYPE, DType::F64) { 2 } else { 1 };
}

/// Drawn token and its logit. `rest` is the sum of e^((logit - max) / temperature) over the candidates, without the
/// largest term, which is 1.
struct Drawn {
    token: u32,
    logit: f64,
    rest: f64,
}

/// Returns the maximum number of candidates that the next filter leaves, or `None` if it may leave more than [`FEW`].
fn few_first(filters: &[Filter]) -> Option<usize> {
    match filters {
        [Filter::Greedy, ..] => Some(1),
        [Filter::TopK { k, keeps_equals: false }, ..] if *k <= FEW => Some(*k),
        _ => None,
    }
}

/// Returns whether a filter uses candidate positions or floating-point sums. All candidates must be gathered for such a
/// filter.
fn is_float(filter: &Filter) -> bool {
    matches!(
        filter,
        Filter::DynamicTemperature { .. }
            | Filter::Typical { .. }
            | Filter::TopNSigma(_)
            | Filter::Eta(_)
            | Filter::Xtc { .. }
    )
}

/// Rejects filters that would have to gather the whole vocabulary.
fn can_run(row: usize, filters: &[Filter]) -> Result<()> {
    let is_bound = |filter: &Filter| matches!(filter, Filter::Greedy | Filter::TopK { .. });
    let unbound = filters.iter().take_while(|filter| !is_bound(filter)).find(|filter| is_float(filter));
    let Some((argument, value)) = unbound.map(Filter::parameter) else { return Ok(()) };
    let expected = "left unset for a sharded vocabulary, or used with a top-k before it in the profile's order";
    Err(Error::invalid_in_row(OP, argument, row, value, expected))
}
