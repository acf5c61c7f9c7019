//! Sampling from one rank's shard of a row, between exchanges. Masses are the same integers as in the unsharded row.

use super::candidates::Candidates;
use super::filters::{Filtering, Found, Scraps};
use super::scale::Scale;
use super::search::{By, Search};
use super::top_p::ceil_of_product;
use super::whole::Whole;
use super::{OP, asks_for_total, heat};
use crate::cpu::exp_sum::{self, ExpSum, RescaleExponent};
use crate::cpu::scores::{Row, Scores};
use crate::cpu::scratch::Buffers;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::math::bins::{self, Bins};
use crate::math::keys;
use crate::math::log::log1p_scalar;
use crate::sampler::{Adjustments, Filter, History, Part, Request, Sampled};
use crate::simd::{self, Isa, Work};
use std::ops::Range;

pub use super::search::BUCKETS;

/// Number of candidates up to which gathering is preferred to filtering on the shards.
pub const FEW: usize = 1024;
/// Words in a rank's share of a draw: the sum, its bins, the drawn token and the key of its logit.
const SHARE: usize = exp_sum::UNITS + bins::WORDS + 2;
/// Low-order bits of a word that hold the token. The 32-bit key of the logit is above them.
const TOKEN_BITS: u32 = 21;

/// Float type in which sharded rows are sampled.
///
/// It is f64 for f64 rows and for masks with a bias, and f32 for all others.
pub trait SampleFloat: Element + Default {
    /// Returns the largest logit, or NaN if any logit is NaN. For f32, writes the `maxima` of [`Whole::survey`].
    fn max<I: Isa>(isa: I, z: &[Self], maxima: &mut Vec<f32>) -> f64;

    /// Appends the tokens that are not masked.
    fn present<I: Isa>(isa: I, whole: Whole<'_, Self>, to: &mut Candidates<Self>);

    /// Appends the first k tokens in order, or all unmasked tokens if there are fewer.
    fn first<I: Isa>(isa: I, whole: Whole<'_, Self>, k: usize, maxima: &[f32], to: &mut Candidates<Self>);

    /// Runs the task on each row.
    fn each(task: Task, rows: &mut [&mut ShardedRow<'_, Self>]) -> Result<()>;
}

impl SampleFloat for f32 {
    #[inline(always)]
    fn max<I: Isa>(isa: I, z: &[f32], maxima: &mut Vec<f32>) -> f64 {
        f64::from(Whole { z, first: 0 }.survey(isa, maxima))
    }

    #[inline(always)]
    fn present<I: Isa>(isa: I, whole: Whole<'_, f32>, to: &mut Candidates<f32>) {
        whole.present(isa, to);
    }

    #[inline(always)]
    fn first<I: Isa>(isa: I, whole: Whole<'_, f32>, k: usize, maxima: &[f32], to: &mut Candidates<f32>) {
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
    fn present<I: Isa>(_: I, whole: Whole<'_, f64>, to: &mut Candidates<f64>) {
        to.append(whole.z.len(), |room| {
            for (i, z) in whole.z.iter().enumerate().filter(|(_, z)| **z > f64::NEG_INFINITY) {
                (room.tokens[room.count], room.logits[room.count]) = ((whole.first + i) as u32, *z);
                room.count += 1;
            }
        });
    }

    #[inline(always)]
    fn first<I: Isa>(isa: I, whole: Whole<'_, f64>, k: usize, _: &[f32], to: &mut Candidates<f64>) {
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
    type Out = ();

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

    fn join((): (), (): ()) {}

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

/// Converts elements to another type, which represents them exactly.
fn converted<E: Element, S: Element>(x: &[E]) -> Vec<S> {
    x.iter().map(|z| S::from_wide(z.widen())).collect()
}

/// Shard of a row: the tokens whose columns this rank holds.
pub struct ShardedRow<'a, S> {
    pub row: usize,
    /// Transform by the mask, until it is applied.
    scores: Option<Scores<'a>>,
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
    /// Whether a filter has run, or the candidates are only those with +inf.
    is_cut: bool,
    /// Number of remaining candidates and their mass on each rank, in order of columns.
    census: Option<Vec<[u64; 2]>>,
    searches: Vec<Search>,
    /// Minimum mass at which a token is kept regardless of the searches. [`u64::MAX`] disables this rule.
    least: u64,
    /// Number of candidates and their mass on the ranks with lower columns.
    before: [u64; 2],
    drawn: Drawn,
    /// Words to exchange after the last task.
    pub words: Vec<u64>,
    /// Result of the draw, once it is done.
    pub sampled: Option<Sampled>,
}

/// Next step of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Gathers at most this many candidates from each rank.
    First(usize),
    /// Gathers all remaining candidates.
    All,
    /// Draws from the remaining candidates without gathering them.
    Share,
    /// Searches for the cut of the next filter.
    Cut,
}

impl<'a, S: SampleFloat> ShardedRow<'a, S> {
    /// Creates the shard with the columns `columns` of `all`, and applies the adjustments of the row's step.
    ///
    /// The adjustments are computed in f64 for f64 logits and in f32 for others, regardless of the type `S`.
    pub fn new<E: Element>(
        (row, x): (usize, &[E]),
        scores: Option<Scores<'a>>,
        request: Request<'a>,
        (columns, all): (Range<usize>, usize),
        history: &mut History,
    ) -> Result<Self> {
        let (config, plan, step) = request.parts();
        let (temperature, filters) = heat(&plan.filters);
        can_run(row, filters)?;
        let z: Vec<S> = match Adjustments::new(config, step) {
            None => converted(x),
            Some(adjustments) if E::IS_F64 => {
                let mut z: Vec<f64> = converted(x);
                adjustments.apply(row, Part { logits: &mut z, first: columns.start, all }, history)?;
                converted(&z)
            }
            Some(adjustments) => {
                let mut z: Vec<f32> = converted(x);
                adjustments.apply(row, Part { logits: &mut z, first: columns.start, all }, history)?;
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

    /// Writes two keys for a max-reduction over all ranks: of the largest logit, and of the first NaN's column.
    #[inline(always)]
    fn survey<I: Isa>(&mut self, isa: I) {
        if let Some(scores) = self.scores.take() {
            self.mask(isa, scores);
        }
        let max = if self.z.is_empty() { f64::NEG_INFINITY } else { S::max(isa, &self.z, &mut self.maxima) };
        let nan = self.z.iter().position(|z| max.is_nan() && z.widen().is_nan());
        self.words.extend([keys::of_f64(max), nan.map_or(0, |i| !((self.columns.start + i) as u64))]);
    }

    /// Replaces the logits with the masked ones.
    #[inline(always)]
    fn mask<I: Isa>(&mut self, isa: I, scores: Scores<'_>) {
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

    /// Stores the largest logit from the reduced keys of [`Task::Survey`], or rejects the row.
    pub fn take_survey(&mut self, [max, nan]: [u64; 2]) -> Result<()> {
        let (row, vocabulary, max) = (self.row, self.scale.vocabulary, keys::to_f64(max));
        if max.is_nan() {
            return Err(Error::NonFiniteInput { op: OP, row, index: !nan as usize, value: f64::NAN });
        }
        if max == f64::NEG_INFINITY {
            return Err(Error::EmptySupport { op: OP, row, vocabulary });
        }
        self.scale.max = max;
        Ok(())
    }

    #[inline(always)]
    fn begin<I: Isa>(&mut self, isa: I) {
        let whole = Whole { z: &self.z[..], first: self.columns.start };
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

    /// Returns whether a filter needs the total mass before filtering.
    pub fn asks_for_total(&self) -> bool {
        asks_for_total(self.filters)
    }

    /// Stores the total mass, while the candidates are still all tokens.
    pub fn take_total(&mut self) {
        self.total = self.mass();
    }

    #[inline(always)]
    fn take_census<I: Isa>(&mut self, isa: I) {
        self.candidates.weigh(isa, self.scale);
        self.words.extend([self.candidates.len() as u64, self.scale.mass_of(isa, self.candidates.weights())]);
    }

    /// Stores the count and mass of each rank, in order of columns. `own` is the position of this rank.
    pub fn set_census(&mut self, ranks: Vec<[u64; 2]>, own: usize) {
        let add = |[count, mass]: [u64; 2], [c, m]: &[u64; 2]| [count + c, mass + m];
        self.before = ranks[..own].iter().fold([0; 2], add);
        self.census = Some(ranks);
    }

    /// Sums the counts (0) or the masses (1) of all ranks.
    fn sum(&self, of: usize) -> u64 {
        self.census.iter().flatten().map(|rank| rank[of]).sum()
    }

    fn count(&self) -> usize {
        self.sum(0) as usize
    }

    fn mass(&self) -> u64 {
        self.sum(1)
    }

    /// Returns the number of words in each rank's list. `widths` are the numbers of columns.
    pub fn lens(&self, widths: &[usize]) -> Vec<usize> {
        let count = |rank: &[u64; 2]| rank[0] as usize * Self::WORDS;
        match self.next() {
            Next::First(k) => widths.iter().map(|width| k.min(*width) * Self::WORDS).collect(),
            _ => self.census.iter().flatten().map(count).collect(),
        }
    }

    /// Applies temperatures, which need no exchange. Returns whether the next step needs a census that is missing.
    pub fn needs_census(&mut self) -> bool {
        while let [Filter::Temperature(temperature), rest @ ..] = self.filters {
            self.filters = rest;
            self.scale = Scale::new(self.scale.max, *temperature, self.scale.vocabulary);
            self.candidates.set_weighed(false);
            self.census = None;
        }
        let goes_by_what_is_left = match self.filters {
            [] | [Filter::TopP { of_all: false, .. } | Filter::Epsilon(_), ..] => true,
            [filter, ..] => is_float(filter),
        };
        self.census.is_none() && few_first(self.filters).is_none() && (self.is_cut || goes_by_what_is_left)
    }

    pub fn next(&self) -> Next {
        let is_few = self.is_cut && self.census.is_some() && self.count() <= FEW;
        match self.filters {
            _ if is_few => Next::All,
            [] => Next::Share,
            [filter, ..] if is_float(filter) => Next::All,
            filters => few_first(filters).map_or(Next::Cut, Next::First),
        }
    }

    /// Starts the searches for the cut of the next filter.
    pub fn search(&mut self) {
        let min_keep = self.request.parts().1.min_keep;
        let count = |needed: usize, highest_first, keeps_equals| {
            Search::new::<S>(By::Count, needed as u64, highest_first, keeps_equals)
        };
        let Some((filter, rest)) = self.filters.split_first() else { return };
        self.searches.clear();
        self.least = u64::MAX;
        match *filter {
            Filter::TopK { k, keeps_equals } => self.searches.push(count(k, false, keeps_equals)),
            Filter::TopP { p, highest_first, of_all } => {
                let needed = ceil_of_product(p, if of_all { self.total } else { self.mass() });
                self.searches.push(Search::new::<S>(By::Mass, needed, highest_first, false));
                if min_keep > 1 {
                    self.searches.push(count(min_keep, highest_first, false));
                }
            }
            Filter::MinP(p) => {
                self.least = if p > 1.0 { u64::MAX } else { ceil_of_product(p, self.scale.one()) };
                if min_keep > 1 || p > 1.0 {
                    self.searches.push(count(min_keep, false, false));
                }
            }
            Filter::Epsilon(epsilon) => {
                self.least = ceil_of_product(epsilon, self.mass());
                self.searches.push(count(min_keep, false, true));
            }
            // The other filters run on gathered candidates.
            _ => {}
        }
        self.filters = rest;
    }

    /// Returns the searches that need another histogram.
    pub fn open(&mut self) -> impl Iterator<Item = &mut Search> {
        self.searches.iter_mut().filter(|search| search.is_open())
    }

    /// Returns all searches, once their digits are known.
    pub fn found(&mut self) -> &mut [Search] {
        &mut self.searches
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

    /// Words for one candidate.
    const WORDS: usize = if matches!(S::DTYPE, DType::F64) { 2 } else { 1 };

    /// Returns the candidates as words to gather.
    ///
    /// The first word of a candidate is never 0, so zeros can pad the list.
    pub fn list(&mut self) -> Vec<u64> {
        if let Next::First(k) = self.next() {
            self.candidates.keep_first(k, false);
        }
        let mut words = Vec::with_capacity(self.candidates.len() * Self::WORDS);
        for c in self.candidates.iter() {
            match S::DTYPE {
                DType::F64 => words.extend([keys::of_f64(c.logit), c.token.into()]),
                _ => words.push(u64::from(keys::of_f32(c.logit as f32)) << TOKEN_BITS | u64::from(c.token)),
            }
        }
        words
    }

    /// Replaces the candidates with those of all ranks.
    pub fn take_lists(&mut self, lists: &[&[u64]]) {
        self.candidates.clear();
        for word in lists.iter().flat_map(|list| list.chunks_exact(Self::WORDS)).filter(|word| word[0] != 0) {
            let (token, logit) = match word {
                &[key, token] => (token, keys::to_f64(key)),
                &[word, ..] => (word & ((1 << TOKEN_BITS) - 1), keys::to_f32((word >> TOKEN_BITS) as u32).into()),
                [] => continue,
            };
            self.candidates.push(token as u32, S::from_wide(logit));
        }
    }

    #[inline(always)]
    fn finish<I: Isa>(&mut self, isa: I) {
        let (_, plan, step) = self.request.parts();
        let (candidates, mut scraps) = (&mut self.candidates, Scraps::default());
        let found = isa.outline(Filtering {
            filters: self.filters,
            min_keep: plan.min_keep,
            draw: step.draw(),
            total: self.total,
            candidates,
            scale: self.scale,
            scraps: &mut scraps,
        });
        let Found { scale, log_sum, drawn } = found;
        let c = self.candidates.candidate(drawn);
        let logprob = scale.distance(c.logit) - log_sum;
        self.sampled = Some(Sampled { token: c.token, logprob, kept: self.candidates.len() });
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

    /// Merges the ranks' shares of a draw. Returns whether one of them contains the drawn token.
    #[must_use]
    pub fn take_shares<'w>(&mut self, shares: impl Iterator<Item = &'w [u64; SHARE]>) -> bool {
        let (mut sum, mut drawn) = (ExpSum::default(), None);
        for &[first, second, third, ref bins @ .., token, key] in shares {
            sum.merge(ExpSum::of_units::<f64>(
                [first, second, third],
                RescaleExponent::default(),
                self.scale.vocabulary,
            ));
            sum.add_bins(Bins::of_words(*bins));
            if token > 0 {
                drawn = Some((token - 1, key));
            }
        }
        let Some((token, key)) = drawn else { return false };
        self.drawn =
            Drawn { token: token as u32, logit: keys::to_f64(key), rest: sum.above_one(self.scale.vocabulary) };
        true
    }

    #[inline(always)]
    fn conclude<I: Isa>(&mut self, isa: I) {
        let Drawn { token, logit, rest } = self.drawn;
        let logprob = self.scale.distance(logit) - log1p_scalar(isa, rest);
        self.sampled = Some(Sampled { token, logprob, kept: self.count() });
    }
}

/// Drawn token and its logit. `rest` is the sum of e^distance without the largest term, which is 1.
struct Drawn {
    token: u32,
    logit: f64,
    rest: f64,
}

/// Returns the maximum number of candidates that the next filter leaves, if it states one of at most [`FEW`].
fn few_first(filters: &[Filter]) -> Option<usize> {
    match filters {
        [Filter::Greedy, ..] => Some(1),
        [Filter::TopK { k, keeps_equals: false }, ..] if *k <= FEW => Some(*k),
        _ => None,
    }
}

/// Returns whether a filter uses float sums or positions, and therefore needs all candidates gathered.
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
    let (argument, value) = match unbound {
        None => return Ok(()),
        Some(Filter::DynamicTemperature { .. }) => ("dynamic_temperature", String::from("set")),
        Some(Filter::Typical { p, .. }) => ("typical_p", p.to_string()),
        Some(Filter::TopNSigma(n)) => ("top_n_sigma", n.to_string()),
        Some(Filter::Eta(eta)) => ("eta_cutoff", eta.to_string()),
        Some(Filter::Xtc { probability, .. }) => ("xtc_probability", probability.to_string()),
        Some(_) => return Ok(()),
    };
    let expected = "left unset, or used with a top-k before it in the profile's order, as the vocabulary is sharded";
    Err(Error::invalid_in_row(OP, argument, row, value, expected))
}
