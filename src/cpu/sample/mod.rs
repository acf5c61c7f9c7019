//! What a sampler may draw from a row, without sorting the vocabulary.
//!
//! Tokens are weighed with softmax's exponentials as integers (rule Q), so every sum is exact and no cut depends on
//! an order of addition. Masses decide cuts and draws; reported probabilities come of f64 exponentials over the
//! support. Tokens are ordered by logit, the highest first, and among equals by index.

mod candidates;
mod filters;
mod rows;
mod top_p;

use super::scores::{Live, Row, Scores};
use super::scratch::{self, Scratch};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Resolved};
use crate::math::log::log_scalar;
use crate::ops::sample::{Adjustments, Distribution, Filter, Request};
use crate::report::Counts;
use crate::rows::Rows;
use crate::simd::{self, Isa, Kernel, Work};
use candidates::{Candidates, Scale};
use filters::Filtering;

const OP: &str = "sample";

/// Calls `each` with every row's index and distribution, and collects what it makes of them.
pub fn each_row<E, T, F>(
    logits: Rows<'_, E>,
    mask: Option<Resolved<'_>>,
    requests: &[Request<'_>],
    each: F,
) -> Result<(Vec<Result<T>>, Counts)>
where
    E: Element,
    T: Send,
    F: Fn(usize, Distribution) -> T + Copy + Send,
{
    let scores = Scores { mask, scale: 1.0, softcap: None, fully_masked: FullyMasked::Zeros };
    simd::run(Draws { logits, first: 0, rows: logits.rows(), scores, requests, each })
}

struct Draws<'a, E, F> {
    logits: Rows<'a, E>,
    first: usize,
    rows: usize,
    scores: Scores<'a>,
    requests: &'a [Request<'a>],
    each: F,
}

impl<E, T, F> Work for Draws<'_, E, F>
where
    E: Element,
    T: Send,
    F: Fn(usize, Distribution) -> T + Copy + Send,
{
    type Out = (Vec<Result<T>>, Counts);

    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.logits.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        (Draws { rows: at, ..self }, Draws { first: self.first + at, rows: self.rows - at, ..self })
    }

    fn join(mut first: Self::Out, rest: Self::Out) -> Self::Out {
        first.0.extend(rest.0);
        first.1.add(&rest.1);
        first
    }

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let mut counts = Counts { rows: self.rows as u64, ..Counts::default() };
        let mut out = Vec::with_capacity(self.rows);
        let mut adjusted = Adjusted::default();
        scratch::with(
            #[inline(always)]
            |scratch| {
                for index in self.first..self.first + self.rows {
                    let drawn = Drawn { scores: &self.scores, request: self.requests[index], row: index };
                    let row = drawn.distribution(isa, self.logits.row(index), &mut adjusted, scratch, &mut counts);
                    out.push(row.map(|distribution| (self.each)(index, distribution)));
                }
            },
        );
        (out, counts)
    }
}

/// Rows that a step changed: in f32, as engines do it, and of f64 in f64.
#[derive(Default)]
struct Adjusted {
    f32s: Vec<f32>,
    f64s: Vec<f64>,
}

/// A row that is drawn from.
struct Drawn<'a> {
    scores: &'a Scores<'a>,
    request: Request<'a>,
    row: usize,
}

impl Drawn<'_> {
    #[inline(always)]
    fn distribution<I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        adjusted: &mut Adjusted,
        scratch: &mut Scratch,
        counts: &mut Counts,
    ) -> Result<Distribution> {
        let (config, _, step) = self.request.parts();
        let Some(adjustments) = Adjustments::new(config, step) else {
            return isa.outline(OfRow { drawn: self, x, scratch, counts });
        };
        if E::DTYPE == DType::F64 {
            adjusted.f64s.clear();
            adjusted.f64s.extend(x.iter().map(|z| z.widen()));
            adjustments.apply(self.row, &mut adjusted.f64s)?;
            return isa.outline(OfRow { drawn: self, x: &adjusted.f64s[..], scratch, counts });
        }
        adjusted.f32s.clear();
        adjusted.f32s.extend(x.iter().map(|z| z.widen() as f32));
        adjustments.apply(self.row, &mut adjusted.f32s)?;
        isa.outline(OfRow { drawn: self, x: &adjusted.f32s[..], scratch, counts })
    }
}

/// A row as it is to be drawn from, as a function of its own.
struct OfRow<'a, E> {
    drawn: &'a Drawn<'a>,
    x: &'a [E],
    scratch: &'a mut Scratch,
    counts: &'a mut Counts,
}

impl<E: Element> Kernel for OfRow<'_, E> {
    type Out = Result<Distribution>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Result<Distribution> {
        let OfRow { drawn: &Drawn { scores, request, row }, x, scratch, counts } = self;
        let (_, plan, step) = request.parts();
        match scores.read(isa, row, x, &mut scratch.logits) {
            Row::Nan(live) => {
                counts.nan += 1;
                let index = live.find(x, f64::is_nan);
                Err(Error::NonFiniteInput { op: OP, row, index, value: f64::NAN })
            }
            Row::Masked => {
                counts.wholly_masked += 1;
                Err(Error::EmptySupport { op: OP, row, vocabulary: x.len() })
            }
            Row::Infinite(live) => {
                counts.infinite += 1;
                let infinite = live.such(x, |z| z == f64::INFINITY).tokens;
                let log_count = log_scalar(isa, infinite.len() as f64).0;
                Ok(Distribution::uniform(x.len(), infinite, log_count))
            }
            Row::Live(live) => {
                let (candidates, filters) = first(isa, &live, x, &plan.filters);
                let total = |scale| isa.outline(Total { live: &live, x, scale });
                Ok(isa.outline(Filtering {
                    filters,
                    min_keep: plan.min_keep,
                    draw: step.draw(),
                    vocabulary: x.len(),
                    total: &total,
                    candidates,
                    max: live.max,
                    temperature: temperature(&plan.filters[..plan.filters.len() - filters.len()]),
                    buffer: &mut scratch.made.f64s,
                }))
            }
        }
    }
}

/// The mass of all tokens.
struct Total<'a, 's, E> {
    live: &'a Live<'s>,
    x: &'a [E],
    scale: Scale,
}

impl<E: Element> Kernel for Total<'_, '_, E> {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let all = self.live.present(isa, self.x);
        self.scale.masses(isa, &self.scale.distances(isa, &all.logits)).into_iter().sum()
    }
}

/// The candidates that the first filters leave, as far as these need no more than the logits' order, and the filters
/// that remain.
#[inline(always)]
fn first<'f, I: Isa, E: Element>(
    isa: I,
    live: &Live<'_>,
    x: &[E],
    filters: &'f [Filter],
) -> (Candidates, &'f [Filter]) {
    match filters {
        [Filter::Greedy, ..] => {
            let mut kept = Candidates::default();
            let token = live.find(x, |z| z == live.max);
            kept.push(candidates::Candidate { logit: live.max, token: token as u32 });
            (kept, &filters[1..])
        }
        [Filter::Temperature(_), Filter::TopK { k, keeps_equals }, ..] if *k < live.columns.len() => {
            (live.top_k(isa, x, *k, *keeps_equals), &filters[2..])
        }
        [Filter::TopK { k, keeps_equals }, ..] if *k < live.columns.len() => {
            (live.top_k(isa, x, *k, *keeps_equals), &filters[1..])
        }
        _ => (live.present(isa, x), filters),
    }
}

/// The temperature after these filters.
fn temperature(filters: &[Filter]) -> f64 {
    match filters {
        [Filter::Temperature(temperature), ..] => *temperature,
        _ => 1.0,
    }
}
