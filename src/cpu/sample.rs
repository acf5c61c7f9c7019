//! Tokens that a sampler may draw from a row, found without sorting the vocabulary.
//!
//! The mass of a token is its softmax exponential, rounded to an integer number of units (see `math::fixed_point`).
//! Masses decide cutoffs and draws. Their sums are exact, so no cutoff depends on the order of addition. Reported
//! probabilities come from f64 exponentials of the remaining tokens. Tokens are ordered by descending logit. Tokens of
//! equal logit are ordered by index.

pub mod candidates;
mod feedback;
mod filters;
mod logit_slice;
mod prefix;
mod rows;
mod scale;
#[cfg(feature = "sharded")]
mod search;
#[cfg(feature = "sharded")]
pub mod sharded_row;
mod top_p;
mod typical;

use super::scores::{Live, LogitTransform, Logits, Row, widened};
use super::scratch::{self, Lendable, Scratch, scratch_slice};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Resolved};
use crate::report::Counts;
use crate::rows::Rows;
use crate::sampler::{
    Adjustments, Controller, Feedback, Filter, FromLeft, History, Left, LeftLogits, LogitSliceMut, Request, Requests,
};
use crate::simd::{self, Isa, Kernel, Work, allocated};
use candidates::{Candidate, Candidates};
use filters::{DrawnCandidate, Filtering, Scraps};
use logit_slice::LogitSlice;
use prefix::Search;
use scale::Scale;
use std::cell::Cell;

const OP: &str = "sample";

/// Filters each row, draws a token, and writes the results to `out`.
pub fn each_row<E: Element, T: FromLeft>(
    logits: Rows<'_, E>,
    mask: Option<Resolved<'_>>,
    requests: &Requests<'_, '_>,
    out: &mut [Result<T>],
) -> Result<Counts> {
    let scores = LogitTransform { mask, scale: 1.0, softcap: None, fully_masked: FullyMasked::Zeros };
    simd::run(Draws { logits, first: 0, out, scores, requests })
}

struct Draws<'a, 'r, E, T> {
    logits: Rows<'a, E>,
    first: usize,
    /// Results of the rows from `first` on.
    out: &'a mut [Result<T>],
    scores: LogitTransform<'a>,
    requests: &'a Requests<'a, 'r>,
}

impl<E: Element, T: FromLeft> Work for Draws<'_, '_, E, T> {
    fn rows(&self) -> usize {
        self.out.len()
    }

    fn cols(&self) -> usize {
        self.logits.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (out, rest) = self.out.split_at_mut(at);
        (Draws { out, ..self }, Draws { first: self.first + at, out: rest, ..self })
    }
}

impl<E: Element, T: FromLeft> Kernel for Draws<'_, '_, E, T> {
    type Out = Counts;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Counts {
        let mut counts = Counts { rows: self.out.len() as u64, ..Counts::default() };
        let (mut lent_scratch, mut lent) = (scratch::lend_scratch(), scratch::lend(&SAMPLING));
        let (scratch, sampling) = (lent_scratch.get(), lent.get());
        for (i, out) in self.out.iter_mut().enumerate() {
            let row = self.first + i;
            let request = (self.requests)(row);
            let has_logprob = request.sampler.config().logprob;
            let needs_log_sum = T::NEEDS_LOG_SUM || has_logprob;
            let drawn = Drawn { scores: &self.scores, request, row, needs_log_sum };
            let x = self.logits.row(row);
            let found = drawn.run(isa, x, (&mut *scratch, &mut *sampling), &mut counts);
            *out = found.map(|found| T::from_left(sampling.left(&found, has_logprob)));
        }
        counts
    }
}

/// Buffers of a sampler, with the candidates of the current row.
#[derive(Default)]
pub struct Sampling {
    narrow: Candidates<f32>,
    /// Candidates of f64 rows, and of rows with infinite logits.
    wide: Candidates<f64>,
    is_wide: bool,
    maxima: Vec<f32>,
    ordered: Vec<f32>,
    search: Search,
    scraps: Scraps,
    /// Probabilities of the candidates before adaptive-p changed them. Empty without adaptive-p.
    probs: Vec<f64>,
    history: History,
    adjusted: Adjusted,
}

allocated! {
    Sampling { narrow, wide, is_wide, maxima, ordered, search, scraps, probs, history, adjusted }
    Adjusted { f32s, f64s }
}

thread_local! {
    pub static SAMPLING: Lendable<Sampling> = const { Cell::new(None) };
}

impl Sampling {
    fn left(&self, found: &DrawnCandidate, has_logprob: bool) -> Left<'_> {
        let &DrawnCandidate { scale: Scale { max, inverse, vocabulary }, log_sum, drawn, kept, controller } = found;
        let (tokens, logits, weights) = if self.is_wide {
            (self.wide.tokens(), LeftLogits::F64(self.wide.logits()), self.wide.weights())
        } else {
            (self.narrow.tokens(), LeftLogits::F32(self.narrow.logits()), self.narrow.weights())
        };
        let probs = &self.probs;
        Left { vocabulary, tokens, logits, weights, max, inverse, log_sum, has_logprob, drawn, kept, controller, probs }
    }
}

/// Logits of the current row after [`Adjustments`]. Logits of f64 rows are adjusted in f64, all others in f32, as in
/// inference engines.
#[derive(Default)]
struct Adjusted {
    f32s: Vec<f32>,
    f64s: Vec<f64>,
}

/// A row to draw from.
struct Drawn<'a> {
    scores: &'a LogitTransform<'a>,
    request: Request<'a>,
    row: usize,
    needs_log_sum: bool,
}

impl Drawn<'_> {
    /// Filters the row and draws a token. The buffers then have the drawn token and, if the result needs the
    /// log-sum-exp, all candidates that the filters kept.
    #[inline(always)]
    fn run<I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        (scratch, sampling): (&mut Scratch, &mut Sampling),
        counts: &mut Counts,
    ) -> Result<DrawnCandidate> {
        let (config, _, step) = self.request.parts();
        let Some(adjustments) = Adjustments::new(config, step) else {
            return isa.outline(OfRow { drawn: self, x, scratch, sampling, counts });
        };
        // Takes the adjusted logits out of the sampler, because they are read while the sampler is modified.
        let Adjusted { mut f32s, mut f64s } = std::mem::take(&mut sampling.adjusted);
        let found = if E::IS_F64 {
            f64s.clear();
            f64s.extend(x.iter().copied().map(E::widen));
            adjustments
                .apply(self.row, LogitSliceMut::whole(&mut f64s), &mut sampling.history)
                .and_then(|()| isa.outline(OfRow { drawn: self, x: &f64s[..], scratch, sampling, counts }))
        } else {
            // For f32, `widened` returns `x`, and the logits are copied. For 16-bit types, it fills the buffer.
            widened(isa, x, &mut f32s);
            let z = scratch_slice(&mut f32s, x.len());
            if E::IS_F32 {
                z.iter_mut().zip(x).for_each(
                    #[inline(always)]
                    |(z, x)| *z = x.widen() as f32,
                );
            }
            adjustments
                .apply(self.row, LogitSliceMut::whole(z), &mut sampling.history)
                .and_then(|()| isa.outline(OfRow { drawn: self, x: &*z, scratch, sampling, counts }))
        };
        sampling.adjusted = Adjusted { f32s, f64s };
        found
    }
}

/// Kernel for a row whose logits are ready for sampling, compiled as a separate function.
struct OfRow<'a, E> {
    drawn: &'a Drawn<'a>,
    x: &'a [E],
    scratch: &'a mut Scratch,
    sampling: &'a mut Sampling,
    counts: &'a mut Counts,
}

impl<E: Element> Kernel for OfRow<'_, E> {
    type Out = Result<DrawnCandidate>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Result<DrawnCandidate> {
        let OfRow { drawn: &Drawn { scores, request, row, needs_log_sum }, x, scratch, sampling, counts } = self;
        let (_, plan, step) = request.parts();
        let controller = Controller::new(plan.feedback, row, step)?;
        // Mirostat and adaptive-p depend on log-probabilities.
        let needs_log_sum = needs_log_sum || controller.is_some();
        let mut of = RowSampler { request, controller, needs_log_sum, vocabulary: x.len(), sampling };
        let found = of.found(isa, (scores, row), x, scratch, counts)?;
        of.sampling.probs.clear();
        Ok(match controller {
            Some(Controller { feedback: Feedback::AdaptiveP { target, .. }, value }) => {
                of.sampling.apply_adaptive_p(isa, (target, value), &found, step.draw())
            }
            _ => found,
        })
    }
}

/// Sampler state for one row.
struct RowSampler<'a> {
    request: Request<'a>,
    controller: Option<Controller>,
    needs_log_sum: bool,
    vocabulary: usize,
    sampling: &'a mut Sampling,
}

impl RowSampler<'_> {
    /// Applies the filters and mirostat, and draws from the remaining candidates.
    #[inline(always)]
    fn found<I: Isa, E: Element>(
        &mut self,
        isa: I,
        (scores, row): (&LogitTransform<'_>, usize),
        x: &[E],
        scratch: &mut Scratch,
        counts: &mut Counts,
    ) -> Result<DrawnCandidate> {
        if scores.is_bare::<E>() {
            let whole = LogitSlice { z: x, first: 0 };
            let max = whole.survey(isa, &mut self.sampling.maxima);
            if max.is_finite() {
                return Ok(isa.outline(SurveyedRow { of: self, whole, max }));
            }
        }
        let x = widened(isa, x, &mut scratch.widened);
        match scores.read(isa, row, x, &mut scratch.logits) {
            Row::Nan(live) => {
                counts.nan += 1;
                let index = live.find(x, f64::is_nan);
                Err(Error::non_finite_input(OP, row, index, f64::NAN))
            }
            Row::Masked => {
                counts.fully_masked += 1;
                Err(Error::EmptySupport { op: OP, row, vocabulary: x.len() })
            }
            Row::Infinite(live) => {
                counts.infinite += 1;
                Ok(self.infinite(isa, &live, x))
            }
            Row::Live(live) => Ok(match live.logits {
                Logits::Direct if !E::IS_F64 => {
                    let whole = LogitSlice { z: &x[live.columns.clone()], first: live.columns.start };
                    self.surveyed(isa, whole)
                }
                Logits::F32(z) => self.surveyed(isa, LogitSlice { z, first: live.columns.start }),
                Logits::Direct | Logits::F64(_) => self.wide(isa, &live, x),
            }),
        }
    }

    /// Draws uniformly among the tokens whose logit is +inf.
    #[inline(always)]
    fn infinite<I: Isa, E: Element>(&mut self, isa: I, live: &Live<'_>, x: &[E]) -> DrawnCandidate {
        self.sampling.wide.clear();
        live.gather(x, |z| z == f64::INFINITY, &mut self.sampling.wide);
        self.sampling.wide.make_alike();
        let controller = self.controller.take();
        let found = self.filter_wide(isa, &[], Scale::new(0.0, 1.0, self.vocabulary), 0);
        DrawnCandidate { controller, ..found }
    }

    #[inline(always)]
    fn surveyed<I: Isa, S: Element>(&mut self, isa: I, whole: LogitSlice<'_, S>) -> DrawnCandidate {
        let max = whole.survey(isa, &mut self.sampling.maxima);
        isa.outline(SurveyedRow { of: self, whole, max })
    }

    /// Draws from a row, with f64 arithmetic.
    #[inline(always)]
    fn wide<I: Isa, E: Element>(&mut self, isa: I, live: &Live<'_>, x: &[E]) -> DrawnCandidate {
        let (_, plan, _) = self.request.parts();
        let (temperature, filters) = heat(&plan.filters);
        let scale = Scale::new(live.max, temperature, self.vocabulary);
        let candidates = &mut self.sampling.wide;
        candidates.clear();
        live.gather(x, |z| z > f64::NEG_INFINITY, candidates);
        let total = if asks_for_total(filters) {
            candidates.weigh(isa, scale);
            scale.mass_of(isa, candidates.weights())
        } else {
            0
        };
        self.filter_wide(isa, filters, scale, total)
    }

    #[inline(always)]
    fn filter_wide<I: Isa>(&mut self, isa: I, filters: &[Filter], scale: Scale, total: u64) -> DrawnCandidate {
        let (_, plan, step) = self.request.parts();
        let Sampling { wide: candidates, is_wide, scraps, .. } = &mut *self.sampling;
        *is_wide = true;
        let (min_keep, draw) = (plan.min_keep, step.draw());
        let (controller, needs_log_sum) = (self.controller, self.needs_log_sum);
        isa.outline(Filtering { filters, min_keep, controller, needs_log_sum, draw, total, candidates, scale, scraps })
    }
}

/// Row of f32, f16 or bf16 logits. The maximum of the row, and the maximum of each lane of each tile
/// ([`LogitSlice::survey`]), are known. If the first filter is greedy, top-k, top-p or min-p, it is usually applied
/// while the candidates are collected.
struct SurveyedRow<'a, 'o, S> {
    of: &'o mut RowSampler<'a>,
    whole: LogitSlice<'o, S>,
    max: f32,
}

impl<S: Element> Kernel for SurveyedRow<'_, '_, S> {
    type Out = DrawnCandidate;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> DrawnCandidate {
        let SurveyedRow { of, whole, max } = self;
        let (_, plan, step) = of.request.parts();
        let (temperature, filters) = heat(&plan.filters);
        let scale = Scale::new(f64::from(max), temperature, of.vocabulary);
        let Sampling { narrow: candidates, maxima, ordered, search, scraps, is_wide, .. } = &mut *of.sampling;
        candidates.clear();
        *is_wide = false;
        if filters.is_empty() && !of.needs_log_sum {
            return whole.draw(isa, scale, step.draw(), &mut scraps.masses, candidates);
        }
        let rest = match filters {
            [Filter::Greedy, rest @ ..] => {
                candidates.push(whole.first_largest(isa, max, maxima) as u32, max);
                rest
            }
            [Filter::TopK { k, keeps_equals }, rest @ ..] if *k < whole.z.len() => {
                whole.top_k(isa, (*k, *keeps_equals), maxima, ordered, candidates);
                rest
            }
            [Filter::TopP { p, highest_first, .. }, rest @ ..] if plan.min_keep == 1 => {
                let order = if *highest_first { Candidate::order_highest } else { Candidate::order };
                if let Some(last) = prefix::last(isa, whole, *p, order, scale, search) {
                    whole.up_to(isa, (last, *highest_first), search.weights(whole.z.len()), candidates);
                }
                rest
            }
            [Filter::MinP(p), ..] if plan.min_keep == 1 && *p <= 1.0 => {
                whole.at_least(isa, scale.logit_below(isa, *p), maxima, candidates);
                filters
            }
            _ => {
                whole.present(isa, candidates);
                filters
            }
        };
        let total = if asks_for_total(rest) { prefix::mass(isa, whole, scale, search) } else { 0 };
        isa.outline(Filtering {
            filters: rest,
            min_keep: plan.min_keep,
            controller: of.controller,
            needs_log_sum: of.needs_log_sum,
            draw: step.draw(),
            total,
            candidates,
            scale,
            scraps,
        })
    }
}

/// Returns the temperature of the first filter, and the remaining filters. If the first filter is not a temperature,
/// returns 1 and all filters.
fn heat(filters: &[Filter]) -> (f64, &[Filter]) {
    match filters {
        [Filter::Temperature(temperature), rest @ ..] => (*temperature, rest),
        _ => (1.0, filters),
    }
}

/// Returns whether a filter needs the mass of all tokens. This mass is computed at the temperature that [`heat`]
/// returns.
fn asks_for_total(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| matches!(filter, Filter::TopP { of_all: true, .. }))
}
