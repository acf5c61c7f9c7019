//! Computation on a sharded row between two exchanges.

use super::{Drawn, ShardedRow, few_first};
use crate::cpu::sample::asks_for_total;
use crate::cpu::sample::candidates::Candidates;
use crate::cpu::sample::filters::{DrawnCandidate, Filtering, Scraps};
use crate::cpu::sample::logit_slice::LogitSlice;
use crate::cpu::sample::scale::Scale;
use crate::cpu::sample::search::By;
use crate::cpu::scores::{LogitTransform, Row};
use crate::cpu::scratch::Buffers;
use crate::element::Element;
use crate::error::Result;
use crate::math::keys;
use crate::math::log::log1p_scalar;
use crate::sampler::Sampled;
use crate::simd::{self, Isa, Kernel, Work};

/// Float type in which sharded rows are sampled.
///
/// It is f64 for f64 rows and for masks with a bias, and f32 for all others.
pub trait SampleFloat: Element + Default {
    /// Returns the largest logit, or NaN if any logit is NaN. For f32, also fills `maxima` for [`SampleFloat::first`].
    fn max<I: Isa>(isa: I, z: &[Self], maxima: &mut Vec<f32>) -> f64;

    /// Appends the tokens that are not masked.
    fn present<I: Isa>(isa: I, whole: LogitSlice<'_, Self>, to: &mut Candidates<Self>);

    /// Appends the first k tokens in the order of [`Candidate::order`], or all unmasked tokens if there are fewer than
    /// k.
    fn first<I: Isa>(isa: I, whole: LogitSlice<'_, Self>, k: usize, maxima: &[f32], to: &mut Candidates<Self>);

    /// Runs the task on each row.
    fn each(task: Task, rows: &mut [&mut ShardedRow<'_, Self>]) -> Result<()>;
}

impl SampleFloat for f32 {
    #[inline(always)]
    fn max<I: Isa>(isa: I, z: &[f32], maxima: &mut Vec<f32>) -> f64 {
        f64::from(LogitSlice { z, first: 0 }.survey(isa, maxima))
    }

    #[inline(always)]
    fn present<I: Isa>(isa: I, whole: LogitSlice<'_, f32>, to: &mut Candidates<f32>) {
        whole.present(isa, to);
    }

    #[inline(always)]
    fn first<I: Isa>(isa: I, whole: LogitSlice<'_, f32>, k: usize, maxima: &[f32], to: &mut Candidates<f32>) {
        if k < whole.z.len() {
            whole.top_k(isa, (k, false), maxima, &mut Vec::new(), to);
        } else {
            whole.present(isa, to);
        }
    }

    fn each(task: Task, rows: &mut [&mut ShardedRow<'_, f32>]) -> Result<()> {
        simd::run(Each { task, rows })
    }
}

impl SampleFloat for f64 {
    #[inline(always)]
    fn max<I: Isa>(_: I, z: &[f64], _: &mut Vec<f32>) -> f64 {
        let larger = |max: f64, z: &f64| if max.is_nan() || max >= *z { max } else { *z };
        z.iter().fold(f64::NEG_INFINITY, larger)
    }

    #[inline(always)]
    fn present<I: Isa>(_: I, whole: LogitSlice<'_, f64>, to: &mut Candidates<f64>) {
        to.append(whole.z.len(), |room| {
            for (i, z) in whole.z.iter().enumerate().filter(|(_, z)| **z > f64::NEG_INFINITY) {
                (room.tokens[room.count], room.logits[room.count]) = ((whole.first + i) as u32, *z);
                room.count += 1;
            }
        });
    }

    #[inline(always)]
    fn first<I: Isa>(isa: I, whole: LogitSlice<'_, f64>, k: usize, _: &[f32], to: &mut Candidates<f64>) {
        Self::present(isa, whole, to);
        to.keep_first(k, false);
    }

    fn each(task: Task, rows: &mut [&mut ShardedRow<'_, f64>]) -> Result<()> {
        simd::run(Each { task, rows })
    }
}

/// Computation on rows between two exchanges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// Finds the largest logit and the first NaN.
    Survey,
    /// Selects the candidates, given the largest logit of all ranks.
    Begin,
    /// Counts the remaining candidates and sums their mass.
    Census,
    /// Computes histograms for the next digit of each search.
    Histograms,
    /// Removes the candidates that the filter rejects.
    Cut,
    /// Computes this rank's share of a draw from candidates that are not gathered.
    Share,
    /// Computes the result of the draw from the merged shares.
    Conclude,
    /// Draws from gathered candidates.
    Finish,
}

struct Each<'w, 'r, 'a, S> {
    task: Task,
    rows: &'w mut [&'r mut ShardedRow<'a, S>],
}

impl<S: SampleFloat> Work for Each<'_, '_, '_, S> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn cols(&self) -> usize {
        self.rows.first().map_or(0, |row| row.columns.len())
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (rows, rest) = self.rows.split_at_mut(at);
        (Each { rows, ..self }, Each { rows: rest, ..self })
    }
}

impl<S: SampleFloat> Kernel for Each<'_, '_, '_, S> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for row in self.rows {
            row.words.clear();
            match self.task {
                Task::Survey => row.survey(isa),
                Task::Begin => row.begin(isa),
                Task::Census => row.take_census(isa),
                Task::Histograms => row.histograms(isa),
                Task::Cut => row.cut(isa),
                Task::Share => row.share(isa),
                Task::Conclude => row.conclude(isa),
                Task::Finish => row.finish(isa),
            }
        }
    }
}

impl<S: SampleFloat> ShardedRow<'_, S> {
    /// Writes two keys for a max-reduction over all ranks: one for the largest logit, one for the column of the first
    /// NaN.
    #[inline(always)]
    fn survey<I: Isa>(&mut self, isa: I) {
        if let Some(scores) = self.scores.take() {
            self.mask(isa, scores);
        }
        let max = if self.z.is_empty() { f64::NEG_INFINITY } else { S::max(isa, &self.z, &mut self.maxima) };
        let nan = self.z.iter().position(|z| max.is_nan() && z.widen().is_nan());
        self.words.extend([keys::of_f64(max), nan.map_or(0, |i| !((self.columns.start + i) as u64))]);
    }

    /// Applies the mask and its biases to the logits.
    #[inline(always)]
    fn mask<I: Isa>(&mut self, isa: I, scores: LogitTransform<'_>) {
        let mut masked = vec![S::NEG_INFINITY; self.z.len()];
        let mut buffers = Buffers::default();
        match scores.read_part(isa, self.row, self.columns.start, &self.z, &mut buffers) {
            Row::Masked => {}
            Row::Nan(live) | Row::Infinite(live) | Row::Live(live) => {
                let to = masked[live.columns.clone()].iter_mut();
                to.enumerate().for_each(|(i, to)| *to = S::from_wide(live.logit(&self.z, i)));
            }
        }
        self.z = masked;
    }

    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I) {
        let whole = LogitSlice { z: &self.z[..], first: self.columns.start };
        if self.scale.max == f64::INFINITY {
            // Draws uniformly among the tokens whose logit is +inf, without any filter.
            S::present(isa, whole, &mut self.candidates);
            self.candidates.retain(|_, c, _| c.logit == f64::INFINITY);
            self.candidates.make_alike();
            (self.scale, self.filters) = (Scale::new(0.0, 1.0, self.scale.vocabulary), &[]);
            self.is_cut = true;
        } else if let (Some(k), false) = (few_first(self.filters), asks_for_total(self.filters)) {
            S::first(isa, whole, k, &self.maxima, &mut self.candidates);
        } else {
            S::present(isa, whole, &mut self.candidates);
        }
        (self.z, self.maxima) = (Vec::new(), Vec::new());
    }

    #[inline(always)]
    fn take_census<I: Isa>(&mut self, isa: I) {
        self.candidates.weigh(isa, self.scale);
        self.words.extend([self.candidates.len() as u64, self.scale.mass_of(isa, self.candidates.weights())]);
    }

    #[inline(always)]
    fn histograms<I: Isa>(&mut self, isa: I) {
        let ShardedRow { candidates, searches, scale, words, .. } = self;
        for search in searches.iter_mut().filter(|search| search.is_open()) {
            let sums = match search.by {
                By::Count => search.histogram::<S>(candidates.iter().map(|c| (c, 1))),
                By::Mass => {
                    candidates.weigh(isa, *scale);
                    let masses = candidates.weights().iter().map(|weight| scale.mass(*weight));
                    search.histogram::<S>(candidates.iter().zip(masses))
                }
            };
            words.extend(sums);
        }
    }

    #[inline(always)]
    fn cut<I: Isa>(&mut self, isa: I) {
        let ShardedRow { candidates, searches, scale, least, .. } = self;
        if *least < u64::MAX {
            candidates.weigh(isa, *scale);
        }
        candidates.retain(|_, c, weight| {
            *least < u64::MAX && scale.mass(weight) >= *least || searches.iter().any(|search| search.holds::<S>(&c))
        });
        (self.is_cut, self.census) = (true, None);
    }

    #[inline(always)]
    fn finish<I: Isa>(&mut self, isa: I) {
        let (config, plan, step) = self.request.parts();
        let (candidates, mut scraps) = (&mut self.candidates, Scraps::default());
        let found = isa.outline(Filtering {
            filters: self.filters,
            min_keep: plan.min_keep,
            controller: None,
            needs_log_sum: config.logprob,
            draw: step.draw(),
            total: self.total,
            candidates,
            scale: self.scale,
            scraps: &mut scraps,
        });
        let DrawnCandidate { scale, log_sum, drawn, .. } = found;
        let c = self.candidates.candidate(drawn);
        let logprob = if config.logprob { scale.distance(c.logit) - log_sum } else { f64::NAN };
        self.sampled = Some(Sampled { token: c.token, logprob, kept: self.candidates.len(), feedback: 0.0 });
    }

    /// Writes the sum of this rank's exponentials, and the drawn token with its logit if this rank holds it.
    #[inline(always)]
    fn share<I: Isa>(&mut self, isa: I) {
        let ShardedRow { candidates, scale, before, words, .. } = self;
        let sum = scale.sum(isa, candidates.logits());
        words.extend(sum.units::<f64>(scale.vocabulary));
        words.extend(sum.bins().to_words());
        candidates.weigh(isa, *scale);
        let census = self.census.iter().flatten();
        let at = self.request.parts().2.draw().below(census.map(|rank| rank[1]).sum());
        let mut sum = before[1];
        let reached = |weight: &f32| {
            sum += scale.mass(*weight);
            sum > at
        };
        let drawn = candidates.weights().iter().position(reached).filter(|_| at >= before[1]);
        words.extend(match drawn.map(|i| candidates.candidate(i)) {
            Some(c) => [u64::from(c.token) + 1, keys::of_f64(c.logit)],
            None => [0, 0],
        });
    }

    #[inline(always)]
    fn conclude<I: Isa>(&mut self, isa: I) {
        let Drawn { token, logit, rest } = self.drawn;
        let has_logprob = self.request.sampler.config().logprob;
        let logprob = if has_logprob { self.scale.distance(logit) - log1p_scalar(isa, rest) } else { f64::NAN };
        self.sampled = Some(Sampled { token, logprob, kept: self.count(), feedback: 0.0 });
    }
}
