//! What a sampler may draw from a row, without sorting the vocabulary.
//!
//! Tokens are weighed with softmax's exponentials as integers (rule Q), so every sum is exact and no cut depends on
//! an order of addition. Masses decide cuts and draws; reported probabilities come of f64 exponentials over the
//! support. Tokens are ordered by logit, the highest first, and among equals by index.

mod candidates;
mod filters;
mod prefix;
mod rows;
mod top_p;
mod typical;
mod whole;

use super::scores::{Live, Logits, Row, Scores};
use super::scratch::{self, Buffers};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Resolved};
use crate::math::log::log_scalar;
use crate::ops::sample::{Adjustments, Filter, Left, Request};
use crate::report::Counts;
use crate::rows::Rows;
use crate::simd::{self, Isa, Kernel, Work};
use candidates::{Candidate, Candidates, Scale};
use filters::Filtering;
use prefix::Search;
use whole::Whole;

const OP: &str = "sample";

/// Calls `each` with every row's index and what is left of it, and collects what it makes of that.
pub fn each_row<E, T, F>(
    logits: Rows<'_, E>,
    mask: Option<Resolved<'_>>,
    requests: &[Request<'_>],
    each: F,
) -> Result<(Vec<Result<T>>, Counts)>
where
    E: Element,
    T: Send,
    F: Fn(usize, Left<'_>) -> T + Copy + Send,
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
    F: Fn(usize, Left<'_>) -> T + Copy + Send,
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
        scratch::with(
            #[inline(always)]
            |scratch| {
                scratch::with_sampling(
                    #[inline(always)]
                    |sampling| {
                        for index in self.first..self.first + self.rows {
                            let drawn = Drawn { scores: &self.scores, request: self.requests[index], row: index };
                            let mut made = None;
                            let mut each = |left: Left<'_>| made = Some((self.each)(index, left));
                            let buffers = (&mut scratch.logits, &mut *sampling);
                            let done = drawn.run(isa, self.logits.row(index), buffers, &mut counts, &mut each);
                            out.extend(done.map(|()| made).transpose());
                        }
                    },
                )
            },
        );
        (out, counts)
    }
}

/// What a sampler makes of a row.
#[derive(Default)]
pub struct Sampling {
    candidates: Candidates,
    distances: Vec<f64>,
    exps: Vec<f64>,
    maxima: Vec<f32>,
    ordered: Vec<f32>,
    search: Search,
    adjusted: Adjusted,
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
    /// Calls `each` with what is left of the row.
    #[inline(always)]
    fn run<I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        (logits, sampling): (&mut Buffers, &mut Sampling),
        counts: &mut Counts,
        each: &mut dyn FnMut(Left<'_>),
    ) -> Result<()> {
        let (config, _, step) = self.request.parts();
        let Some(adjustments) = Adjustments::new(config, step) else {
            return isa.outline(OfRow { drawn: self, x, logits, sampling, counts, each });
        };
        // A row that is read here is not the sampler's to use meanwhile.
        let Adjusted { mut f32s, mut f64s } = std::mem::take(&mut sampling.adjusted);
        let done = if E::DTYPE == DType::F64 {
            f64s.clear();
            f64s.extend(x.iter().map(|z| z.widen()));
            adjustments
                .apply(self.row, &mut f64s)
                .and_then(|()| isa.outline(OfRow { drawn: self, x: &f64s[..], logits, sampling, counts, each }))
        } else {
            f32s.clear();
            f32s.extend(x.iter().map(|z| z.widen() as f32));
            adjustments
                .apply(self.row, &mut f32s)
                .and_then(|()| isa.outline(OfRow { drawn: self, x: &f32s[..], logits, sampling, counts, each }))
        };
        sampling.adjusted = Adjusted { f32s, f64s };
        done
    }
}

/// A row as it is to be drawn from, as a function of its own.
struct OfRow<'a, E> {
    drawn: &'a Drawn<'a>,
    x: &'a [E],
    logits: &'a mut Buffers,
    sampling: &'a mut Sampling,
    counts: &'a mut Counts,
    each: &'a mut dyn FnMut(Left<'_>),
}

impl<E: Element> Kernel for OfRow<'_, E> {
    type Out = Result<()>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Result<()> {
        let OfRow { drawn: &Drawn { scores, request, row }, x, logits, sampling, counts, each } = self;
        let mut of = Of { request, vocabulary: x.len(), sampling, each };
        if scores.is_bare::<E>() {
            let whole = Whole { z: x, first: 0 };
            let max = whole.survey(isa, &mut of.sampling.maxima);
            if max.is_finite() {
                of.whole(isa, whole, max);
                return Ok(());
            }
        }
        match scores.read(isa, row, x, logits) {
            Row::Nan(live) => {
                counts.nan += 1;
                let index = live.find(x, f64::is_nan);
                return Err(Error::NonFiniteInput { op: OP, row, index, value: f64::NAN });
            }
            Row::Masked => {
                counts.wholly_masked += 1;
                return Err(Error::EmptySupport { op: OP, row, vocabulary: x.len() });
            }
            Row::Infinite(live) => {
                counts.infinite += 1;
                let infinite = live.such(x, |z| z == f64::INFINITY).tokens;
                of.alike(&infinite, log_scalar(isa, infinite.len() as f64).0);
            }
            Row::Live(live) => match live.logits {
                Logits::Direct if E::DTYPE != DType::F64 => {
                    let whole = Whole { z: &x[live.columns.clone()], first: live.columns.start };
                    of.surveyed(isa, whole);
                }
                Logits::F32(z) => of.surveyed(isa, Whole { z, first: live.columns.start }),
                Logits::Direct | Logits::F64(_) => of.wide(isa, &live, x),
            },
        }
        Ok(())
    }
}

/// What is drawn from a row.
struct Of<'a> {
    request: Request<'a>,
    vocabulary: usize,
    sampling: &'a mut Sampling,
    each: &'a mut dyn FnMut(Left<'_>),
}

impl Of<'_> {
    /// Every token alike.
    fn alike(&mut self, tokens: &[u32], log_count: f64) {
        let n = tokens.len();
        (self.each)(Left {
            vocabulary: self.vocabulary,
            tokens,
            masses: &vec![1; n],
            distances: &vec![0.0; n],
            log_sum: log_count,
        });
    }

    #[inline(always)]
    fn surveyed<I: Isa, S: Element>(&mut self, isa: I, whole: Whole<'_, S>) {
        let max = whole.survey(isa, &mut self.sampling.maxima);
        self.whole(isa, whole, max);
    }

    /// A row in f32 lanes that was surveyed: the first filters are done on the way to its candidates.
    #[inline(always)]
    fn whole<I: Isa, S: Element>(&mut self, isa: I, whole: Whole<'_, S>, max: f32) {
        let (_, plan, _) = self.request.parts();
        let (temperature, filters) = heat(&plan.filters);
        let scale = Scale::new(f64::from(max), temperature, self.vocabulary);
        let Sampling { candidates, maxima, ordered, search, .. } = &mut *self.sampling;
        candidates.clear();
        let rest = match filters {
            [Filter::Greedy, rest @ ..] => {
                let token = whole.first_largest(isa, max, maxima) as u32;
                candidates.push(Candidate { logit: f64::from(max), token });
                rest
            }
            [Filter::TopK { k, keeps_equals }, rest @ ..] if *k < whole.z.len() => {
                whole.top_k(isa, (*k, *keeps_equals), maxima, ordered, candidates);
                rest
            }
            [Filter::TopP { p, highest_first, .. }, rest @ ..] if plan.min_keep == 1 => {
                let order = if *highest_first { Candidate::order_highest } else { Candidate::order };
                if let Some(last) = prefix::last(isa, whole, *p, order, scale, search) {
                    let weights = search.weights(whole.z.len());
                    whole.up_to(isa, (last, *highest_first), (weights, scale), candidates);
                }
                rest
            }
            [Filter::MinP(p), ..] if plan.min_keep == 1 && *p <= 1.0 => {
                // A little less than what has this weight: the filter itself decides.
                let depth = log_scalar(isa, *p).0.max(DEEPEST) - 1e-3;
                whole.at_least(isa, ((scale.max + depth * temperature) as f32).next_down().max(f32::MIN), candidates);
                filters
            }
            _ => {
                whole.present(isa, candidates);
                filters
            }
        };
        let total = if asks_for_total(rest) { prefix::mass(isa, whole, scale, search) } else { 0 };
        self.filter(isa, rest, (scale.max, temperature), total);
    }

    /// A row in f64.
    #[inline(always)]
    fn wide<I: Isa, E: Element>(&mut self, isa: I, live: &Live<'_>, x: &[E]) {
        let (_, plan, _) = self.request.parts();
        let (temperature, filters) = heat(&plan.filters);
        let scale = Scale::new(live.max, temperature, self.vocabulary);
        self.sampling.candidates = live.present(isa, x);
        let total = if asks_for_total(filters) { mass(isa, &self.sampling.candidates, scale) } else { 0 };
        self.filter(isa, filters, (scale.max, temperature), total);
    }

    /// The filters that are still to come.
    #[inline(always)]
    fn filter<I: Isa>(&mut self, isa: I, filters: &[Filter], (max, temperature): (f64, f64), total: u64) {
        let (_, plan, step) = self.request.parts();
        let Sampling { candidates, distances, exps, .. } = &mut *self.sampling;
        isa.outline(Filtering {
            filters,
            min_keep: plan.min_keep,
            draw: step.draw(),
            vocabulary: self.vocabulary,
            total,
            candidates,
            max,
            temperature,
            distances,
            buffer: exps,
            each: &mut *self.each,
        });
    }
}

/// Distances of tokens that weigh nothing.
const DEEPEST: f64 = -33.0;

/// The temperature that comes first, and the other filters.
fn heat(filters: &[Filter]) -> (f64, &[Filter]) {
    match filters {
        [Filter::Temperature(temperature), rest @ ..] => (*temperature, rest),
        _ => (1.0, filters),
    }
}

/// Whether a filter goes by the mass of all tokens, which has the temperature that comes first.
fn asks_for_total(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| matches!(filter, Filter::TopP { of_all: true, .. }))
}

/// The mass of all candidates.
#[inline(always)]
fn mass<I: Isa>(isa: I, candidates: &Candidates, scale: Scale) -> u64 {
    let (mut distances, mut masses) = (Vec::new(), Vec::new());
    scale.distances(isa, &candidates.logits, &mut distances);
    scale.masses(isa, &distances, &mut masses);
    masses.into_iter().sum()
}
