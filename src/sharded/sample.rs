//! Sampling from sharded rows.

use super::Sharded;
use super::agree::Agreed;
use super::collective::Collective;
use super::digest::Digest;
use super::scores::of_mask;
use crate::cpu::sample::sharded_row::{BUCKETS, NextRound, SampleFloat, ShardedRow, Task};
use crate::cpu::scores::LogitTransform;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Mask};
use crate::math::sum::{MAX_TERMS, unit_bits};
use crate::rows::{Geometry, Rows};
use crate::sampler::{History, Request, Sampled, Step};
use crate::simd::in_default;

const OP: &str = "sample";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`sample_rows`](crate::sample_rows) of sharded rows. This rank holds the columns `logits`. Every rank
    /// gets the same tokens and probabilities, bit-identical to the results for whole rows. The mask covers all
    /// columns. Requests must be the same on every rank; their tokens are indices into the whole vocabulary.
    ///
    /// Greedy sampling, top-k, top-p, min-p and epsilon cutoffs use candidates and sums of histograms. Dynamic
    /// temperature, typical, top-n-sigma, eta and XTC need all remaining tokens on one rank. In the profile's order of
    /// filters, a top-k must therefore come before these filters. They then run on the candidates that the top-k keeps.
    /// Mirostat and adaptive-p are rejected.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | bytes |
    /// |---|---|
    /// | the check that all ranks make the same call | 24 |
    /// | each row: maxima | 16 |
    /// | greedy sampling, or a top-k of up to 1,024 | 8 per candidate of this rank |
    /// | each other filter and row: histograms | 8,192 |
    /// | each other filter and row: ties and remaining tokens | 24 |
    /// | the draw, with at most 1,024 remaining candidates on all ranks together | 8 per candidate of this rank |
    /// | the draw, with more remaining candidates | 80 per row |
    ///
    /// For f64, and with a mask that adds to logits, candidates and histograms take twice as many bytes.
    /// `docs/sharding.md` has the formulae.
    ///
    /// # Errors
    /// The errors of [`sample_rows`](crate::sample_rows), the same on every rank; [`Error::InvalidArgument`] in the
    /// result of a row with mirostat, with adaptive-p, or with a filter that needs a preceding top-k and has none;
    /// [`Error::Collective`] if another rank rejects its arguments, makes another call, or does not join.
    pub fn sample<E: Element>(
        &self,
        logits: Rows<'_, E>,
        mask: Option<&Mask<'_>>,
        requests: &[Request<'_>],
    ) -> Result<Vec<Result<Sampled>>> {
        in_default(|| {
            let begun = self.own(OP, logits.cols()).and_then(|_| self.can_sample(&logits, mask, requests.len()));
            let dims = logits.geometry.shape.dims();
            let (dtype, outer, all) = (E::DTYPE, &dims[..dims.len() - 1], self.all);
            let (of_mask, digest) = (of_mask(mask), digest(requests));
            let text =
                format!("{OP} of {dtype}, {outer:?} rows of {all} tokens, {of_mask}, requests of digest {digest:016x}");
            let (scores, agreed) = self.agree(OP, &text, begun)?;
            // A bias is added in f64. The resulting logits stay in f64, because f32 may not represent them.
            let adds = mask.is_some_and(|mask| !mask.bias.is_empty());
            match dtype {
                DType::F64 => self.sample_in::<f64, E>(logits, scores, requests, agreed),
                _ if adds => self.sample_in::<f64, E>(logits, scores, requests, agreed),
                _ => self.sample_in::<f32, E>(logits, scores, requests, agreed),
            }
        })
    }

    /// Checks the arguments. Returns the transform that applies the mask to whole rows, or `None` without a mask.
    fn can_sample<'m, E: Element>(
        &self,
        logits: &Rows<'_, E>,
        mask: Option<&'m Mask<'_>>,
        requests: usize,
    ) -> Result<Option<LogitTransform<'m>>> {
        let rows = logits.rows();
        if requests != rows {
            let expected = format!("one for each of {rows} rows");
            return Err(Error::shape(OP, "requests", format!("{requests} entries"), expected));
        }
        let mut dims = logits.geometry.shape.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.all;
        }
        let geometry = Geometry::shaped(&dims, -1)?;
        let mask = mask.filter(|mask| !mask.is_none()).map(|mask| mask.resolve(OP, &geometry)).transpose()?;
        if self.all > MAX_TERMS {
            return Err(Error::invalid(OP, "vocabulary", self.all, format!("at most {MAX_TERMS}")));
        }
        if rows > 0 && self.all == 0 {
            return Err(Error::EmptyInput { op: OP });
        }
        let of_mask =
            |mask| LogitTransform { mask: Some(mask), scale: 1.0, softcap: None, fully_masked: FullyMasked::Zeros };
        Ok(mask.map(of_mask))
    }

    fn sample_in<S: SampleFloat, E: Element>(
        &self,
        logits: Rows<'_, E>,
        scores: Option<LogitTransform<'_>>,
        requests: &[Request<'_>],
        agreed: Agreed,
    ) -> Result<Vec<Result<Sampled>>> {
        let ranks = Ranks::new(agreed, self.comm.rank());
        let mut out: Vec<Result<Sampled>> = requests.iter().map(|_| Ok(Sampled::NONE)).collect();
        let (mut rows, mut history) = (Vec::new(), History::default());
        for (row, (request, out)) in requests.iter().zip(&mut out).enumerate() {
            let columns = (self.columns.clone(), self.all);
            match ShardedRow::<S>::new((row, logits.row(row)), scores, *request, columns, &mut history) {
                Ok(dealt) => rows.push(dealt),
                Err(error) => *out = Err(error),
            }
        }
        self.survey(&mut rows, &mut out)?;
        S::each(Task::Begin, &mut such(&mut rows, |_| true))?;
        let mut asking = such(&mut rows, |row| row.asks_for_total());
        self.census(&ranks, &mut asking)?;
        asking.into_iter().for_each(ShardedRow::take_total);
        // Process all rows together, so that one exchange serves all of them.
        while !rows.is_empty() {
            self.census(&ranks, &mut such(&mut rows, ShardedRow::needs_census))?;
            let (mut listing, mut sharing, mut cutting) = (Vec::new(), Vec::new(), Vec::new());
            for row in &mut rows {
                match row.next() {
                    NextRound::First(_) | NextRound::All => listing.push(row),
                    NextRound::Share => sharing.push(row),
                    NextRound::Cut => cutting.push(row),
                }
            }
            self.list(&ranks, &mut listing)?;
            self.share(&mut sharing)?;
            self.cut(&ranks, &mut cutting)?;
            rows.retain(|row| {
                row.sampled.is_none_or(|sampled| {
                    out[row.row] = Ok(sampled);
                    false
                })
            });
        }
        Ok(out)
    }

    /// Finds the largest logits of whole rows, and removes rows that cannot be sampled.
    fn survey<S: SampleFloat>(&self, rows: &mut Vec<ShardedRow<'_, S>>, out: &mut [Result<Sampled>]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut all = such(rows, |_| true);
        S::each(Task::Survey, &mut all)?;
        let mut words = words(&all);
        self.max(OP, &mut words)?;
        let mut keys = words.as_chunks().0.iter();
        rows.retain_mut(|row| match keys.next().map_or(Ok(()), |keys| row.take_survey(*keys)) {
            Ok(()) => true,
            Err(error) => {
                out[row.row] = Err(error);
                false
            }
        });
        Ok(())
    }

    /// Exchanges two numbers for each row and rank: the number of remaining tokens, and their probability mass.
    fn census<S: SampleFloat>(&self, ranks: &Ranks, rows: &mut [&mut ShardedRow<'_, S>]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        S::each(Task::Census, rows)?;
        let all = self.gather(OP, &words(rows))?;
        let of_ranks: Vec<&[u64]> = all.chunks(2 * rows.len()).collect();
        ranks.check_census(&of_ranks)?;
        for (i, row) in rows.iter_mut().enumerate() {
            let census = ranks.order.iter().map(|rank| [of_ranks[*rank][2 * i], of_ranks[*rank][2 * i + 1]]);
            row.set_census(census.collect(), ranks.own);
        }
        Ok(())
    }

    /// Gathers the candidates of all ranks, and draws from them.
    fn list<S: SampleFloat>(&self, ranks: &Ranks, rows: &mut [&mut ShardedRow<'_, S>]) -> Result<()> {
        let lens: Vec<Vec<usize>> = rows.iter().map(|row| row.lens(&ranks.widths)).collect();
        let mut given = Vec::new();
        for (row, lens) in rows.iter_mut().zip(&lens) {
            let mut list = row.list();
            list.resize(lens[ranks.own], 0);
            given.append(&mut list);
        }
        let mut totals = vec![0; ranks.order.len()];
        for (place, rank) in ranks.order.iter().enumerate() {
            totals[*rank] = lens.iter().map(|lens| lens[place]).sum();
        }
        let lists = self.gather_lists(OP, &given, &totals)?;
        let mut rest: Vec<&[u64]> = ranks.order.iter().map(|rank| &lists[*rank][..]).collect();
        for (row, lens) in rows.iter_mut().zip(&lens) {
            let mut of_row = Vec::with_capacity(lens.len());
            for (rest, len) in rest.iter_mut().zip(lens) {
                let (list, behind) = rest.split_at(*len);
                of_row.push(list);
                *rest = behind;
            }
            row.take_lists(&of_row);
        }
        S::each(Task::Finish, rows)
    }

    /// Draws from candidates that stay on their ranks. Each rank sends only its sum of exponentials. The rank that
    /// holds the drawn token also sends this token and its logit.
    fn share<S: SampleFloat>(&self, rows: &mut [&mut ShardedRow<'_, S>]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        S::each(Task::Share, rows)?;
        let row_count = rows.len();
        let all = self.gather(OP, &words(rows))?;
        let shares = all.as_chunks().0;
        for (i, row) in rows.iter_mut().enumerate() {
            if !row.take_shares(shares.iter().skip(i).step_by(row_count)) {
                let reason = format!("no rank holds the token drawn from row {}", row.row);
                return Err(Error::Collective { op: OP, rank: None, reason });
            }
        }
        S::each(Task::Conclude, rows)
    }

    /// Applies the next filter of each row.
    fn cut<S: SampleFloat>(&self, ranks: &Ranks, rows: &mut [&mut ShardedRow<'_, S>]) -> Result<()> {
        rows.iter_mut().for_each(|row| row.search());
        while rows.iter_mut().any(|row| row.open().next().is_some()) {
            S::each(Task::Histograms, rows)?;
            let mut words = words(rows);
            self.sum(OP, &mut words)?;
            let sums = words.chunks(BUCKETS);
            rows.iter_mut().flat_map(|row| row.open()).zip(sums).for_each(|(search, sums)| search.take(sums));
        }
        let equals: Vec<u64> = rows.iter_mut().flat_map(|row| row.found()).map(|search| search.equals()).collect();
        if !equals.is_empty() {
            let all = self.gather(OP, &equals)?;
            for (i, search) in rows.iter_mut().flat_map(|row| row.found()).enumerate() {
                let of_ranks: Vec<u64> = ranks.order.iter().map(|rank| all[rank * equals.len() + i]).collect();
                search.share(&of_ranks, ranks.own);
            }
        }
        S::each(Task::Cut, rows)
    }
}

/// Ranks in the order of their columns.
struct Ranks {
    order: Vec<usize>,
    /// Number of columns of each rank, in the order of columns.
    widths: Vec<usize>,
    /// Position of this rank in the order of columns.
    own: usize,
}

impl Ranks {
    fn new(Agreed { columns }: Agreed, rank: usize) -> Self {
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by_key(|rank| (columns[*rank].start, columns[*rank].end));
        let widths = order.iter().map(|rank| columns[*rank].len()).collect();
        let own = order.iter().position(|other| *other == rank).unwrap_or(0);
        Ranks { order, widths, own }
    }

    /// Checks that no rank reports more tokens than it has columns, or more probability mass than this number of tokens
    /// can have. If all ranks pass, the sum of their masses is at most 2^63.
    fn check_census(&self, of_ranks: &[&[u64]]) -> Result<()> {
        let all = self.widths.iter().sum();
        for (&rank, &width) in self.order.iter().zip(&self.widths) {
            // Each token has a weight of at most 1.
            let most = (width as u64) << unit_bits(all);
            let rows = of_ranks[rank].as_chunks::<2>().0;
            if let Some([count, mass]) = rows.iter().find(|[count, mass]| *count > width as u64 || *mass > most) {
                let reason =
                    format!("rank {rank} reports {count} tokens of mass {mass}; the limits are {width} and {most}");
                return Err(Error::Collective { op: OP, rank: Some(rank), reason });
            }
        }
        Ok(())
    }
}

fn such<'r, 'a, S: SampleFloat>(
    rows: &'r mut [ShardedRow<'a, S>],
    mut is: impl FnMut(&mut ShardedRow<'a, S>) -> bool,
) -> Vec<&'r mut ShardedRow<'a, S>> {
    rows.iter_mut().filter_map(|row| is(row).then_some(row)).collect()
}

/// Concatenates the words that the last [`Task`] computed for each row, in the order of rows.
fn words<S: SampleFloat>(rows: &[&mut ShardedRow<'_, S>]) -> Vec<u64> {
    rows.iter().flat_map(|row| row.words.iter().copied()).collect()
}

/// Returns a digest of the requests. It leaves out the feedback, because all filters that use feedback are rejected.
fn digest(requests: &[Request<'_>]) -> u64 {
    let mut digest = Digest::NEW;
    for request in requests {
        let (config, _, Step { draw, prompt, output, allowed, bias, bad_words, breakers, feedback: _ }) =
            request.parts();
        let counts = [bad_words.len() as u64, allowed.is_some().into()];
        digest = digest.ids([Digest::of_text(&format!("{config:?} {draw:?}"))].into_iter()).ids(counts.into_iter());
        let words = bad_words.iter().map(Vec::as_slice);
        for ids in [prompt, output, allowed.unwrap_or_default(), breakers].into_iter().chain(words) {
            digest = digest.ids(ids.iter().map(|id| u64::from(*id)));
        }
        let bias = bias.iter().map(|(token, bias)| u64::from(*token) << 32 | u64::from(bias.to_bits()));
        digest = digest.ids(bias);
    }
    digest.finish()
}
