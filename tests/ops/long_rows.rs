//! Tests of the softmax family on rows of 262,145 to 2^21 columns. On such rows, a fixed-point sum with too coarse a
//! unit has visible errors. Each row has few distinct values, so that many equal rounding errors add up. A search looks
//! for the largest error.

use crate::support::compare::{assert_same_bits, of_every_row, usual};
use crate::support::generate::{self, Bits};
use crate::support::ulp;
use evenkeel::reference::{DoubleDouble, Real};
use evenkeel::{
    CrossEntropy, DType, Element, Rows, Softmax, SoftmaxPartial, cross_entropy, log_softmax, logsumexp, softmax,
};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(shown_rows, searched_rows, parts_agree);

const LENGTHS: [usize; 5] = [262_145, 300_000, 1_000_000, (1 << 21) - 1, 1 << 21];

/// Row whose largest value is a single 0. Each value is stored with its number of occurrences.
#[derive(Clone)]
struct Row<E> {
    values: Vec<(E, usize)>,
}

impl<E: Bits> Row<E> {
    /// Creates a row of `len` elements: a 0, each value of `others` once, and further copies of the last value.
    fn new(len: usize, others: &[f64]) -> Self {
        let mut values: Vec<(E, usize)> = [0.0].iter().chain(others).map(|value| (E::from_wide(*value), 1)).collect();
        let count = values.len();
        values[count - 1].1 += len - count;
        Row { values }
    }

    fn elements(&self) -> Vec<E> {
        self.values.iter().flat_map(|&(value, count)| std::iter::repeat_n(value, count)).collect()
    }

    /// Returns the index of the first occurrence of each value.
    fn firsts(&self) -> Vec<usize> {
        self.values.iter().scan(0, |at, (_, count)| Some(std::mem::replace(at, *at + count))).collect()
    }

    fn distances(&self) -> impl Iterator<Item = (DoubleDouble, f64)> {
        let max = self.values[0].0.widen();
        self.values.iter().map(move |(value, count)| (DoubleDouble::from(value.widen() - max), *count as f64))
    }

    /// Returns the sum of all exponentials except one. The omitted exponential is 1 and belongs to the largest value.
    fn rest(&self) -> DoubleDouble {
        let mut rest = DoubleDouble::from(self.values[0].1 as f64 - 1.0);
        for (distance, count) in self.distances().skip(1) {
            rest = rest + DoubleDouble::from(count) * distance.exp();
        }
        rest
    }

    /// Returns four numbers: the largest errors of softmax, log_softmax, logsumexp and cross_entropy. Errors of softmax
    /// and log_softmax are in ULP of the result. Errors of logsumexp are in ULP of the result or of its larger term,
    /// whichever is larger. Errors of cross_entropy are in ULP of f64 for rows of f64, otherwise of f32.
    fn errors(&self) -> [f64; 4] {
        let (x, options) = (self.elements(), Softmax::default());
        let rows = Rows::new(&x, 1, x.len()).unwrap();
        let (rest, firsts) = (self.rest(), self.firsts());
        let (sum, log_sum) = (DoubleDouble::from(1.0) + rest, rest.ln_1p());
        let mut errors = [0.0f64; 4];
        let (y, logs) = (softmax(rows, &options).unwrap(), log_softmax(rows, &options).unwrap());
        for ((distance, _), &at) in self.distances().zip(&firsts) {
            errors[0] = errors[0].max(ulp::error(y[at], distance.exp() / sum));
            let log = distance - log_sum;
            errors[1] = errors[1].max(ulp::error_at(logs[at], log, log.abs().to_f64()));
        }
        let max = self.values[0].0.widen();
        let lse = DoubleDouble::from(max) + log_sum;
        let largest = lse.abs().to_f64().max(max.abs()).max(log_sum.to_f64());
        errors[2] = ulp::error_at(logsumexp(rows, &options).unwrap()[0], lse, largest);
        let loss = cross_entropy(rows, &[0], &CrossEntropy::default()).unwrap().value();
        let off = (DoubleDouble::from(loss) - log_sum).abs().to_f64();
        let in_f64 = E::DTYPE == DType::F64;
        errors[3] = off / if in_f64 { ulp::size::<f64>(log_sum.to_f64()) } else { ulp::size::<f32>(log_sum.to_f64()) };
        errors
    }

    fn what(&self) -> String {
        format!("{:?}", self.values)
    }
}

/// Returns the bounds for [`Row::errors`]. Almost all exponentials of a row are equal and have the same error, so their
/// errors add up. For f64, the function therefore returns the bounds that `docs/accuracy/softmax.md` derives for the
/// worst row. For softmax in f32, it returns the bound for rows of equal scores.
fn bounds<E: Element>() -> [f64; 4] {
    let of = |op| if E::IS_F64 { of_every_row::<E>(op) } else { usual::<E>(op) };
    // The bound is the sum of three terms: 1.26 ULP (twice 0.63 ULP) for an exponential, 1.26 ULP for the sum, and 0.5
    // ULP for the result.
    let softmax = if E::DTYPE == DType::F32 { 3.02 } else { of("softmax") };
    [softmax, of("log_softmax"), of("logsumexp"), of("cross_entropy")]
}

#[track_caller]
fn check<E: Bits>(row: &Row<E>) -> [f64; 4] {
    let (errors, bounds) = (row.errors(), bounds::<E>());
    for (i, op) in ["softmax", "log_softmax", "logsumexp", "cross_entropy"].into_iter().enumerate() {
        assert!(
            errors[i] <= bounds[i],
            "{op}: expected an error of at most {} ULP, got {} ULP for a row of these values and counts: {}",
            bounds[i],
            errors[i],
            row.what()
        );
    }
    errors
}

/// Checks rows on which an earlier version had errors of 4.35 ULP in softmax and 2.9 ULP in log_softmax.
fn shown_rows<E: Bits>() {
    check::<E>(&Row::new(1 << 21, &[-29.805_381_774_902_344]));
    check::<E>(&Row::new(1 << 21, &[-1.0, -30.498_491_287_231_445]));
}

/// Returns a copy of the row in which one value other than the first is changed at random, by up to 1e-6, 1e-3 or 0.3.
fn changed<E: Bits>(rng: &mut SmallRng, row: &Row<E>) -> Row<E> {
    let mut row = row.clone();
    let i = rng.random_range(1..row.values.len());
    let (value, reach) = (row.values[i].0.widen(), [1e-6, 1e-3, 0.3][rng.random_range(0..3)]);
    row.values[i].0 = E::from_wide((value - rng.random_range(-reach..reach)).min(0.0));
    row
}

fn searched_rows<E: Bits>() {
    let mut rng = generate::rng("long rows");
    let mut worst = [0.0f64; 4];
    let note = |errors: [f64; 4], worst: &mut [f64; 4]| {
        worst.iter_mut().zip(errors).for_each(|(worst, error)| *worst = worst.max(error));
    };
    for len in [LENGTHS[0], LENGTHS[2], LENGTHS[4]] {
        for op in 0..4 {
            let near = |rng: &mut SmallRng| -rng.random_range(12.0..34.0);
            let start = |rng: &mut SmallRng, round: usize| match round % 3 {
                0 => Row::<E>::new(len, &[near(rng)]),
                1 => Row::new(len, &[-rng.random_range(0.0..3.0), near(rng)]),
                _ => Row::new(len, &[-rng.random_range(3.0..30.0), near(rng)]),
            };
            let (mut best, mut most) = (start(&mut rng, 0), 0.0);
            for round in 0..6 {
                let row = start(&mut rng, round);
                let errors = check(&row);
                note(errors, &mut worst);
                if errors[op] > most {
                    (best, most) = (row, errors[op]);
                }
            }
            for _ in 0..10 {
                let row = changed(&mut rng, &best);
                let errors = check(&row);
                note(errors, &mut worst);
                if errors[op] > most {
                    (best, most) = (row, errors[op]);
                }
            }
        }
    }
    println!("{}: worst of softmax, log_softmax, logsumexp, cross_entropy: {worst:.3?}", E::DTYPE);
}

/// Checks that partial results have the same bits as the results of the whole row. In some rows the sum is close to 1,
/// and the kernel computes the sum without its largest term.
fn parts_agree<E: Bits>() {
    let mut rng = generate::rng("long rows in parts");
    let options = Softmax::default();
    for len in LENGTHS {
        for others in [vec![-1.0, -0.3], vec![-2.0, -29.8], vec![-18.0, -30.5]] {
            let x = Row::<E>::new(len, &others).elements();
            let rows = Rows::new(&x, 1, len).unwrap();
            let cut = rng.random_range(1..len);
            let parts = [(0, &x[..cut]), (cut, &x[cut..])];
            let view = |x| Rows::new(x, 1, <[E]>::len(x)).unwrap();
            let [mut found, other] =
                parts.map(|(first, x)| SoftmaxPartial::new(view(x), (first, len), &options).unwrap());
            found.merge(other).unwrap();
            let [mut sums, more] = parts.map(|(first, x)| found.sums(view(x), first, &options).unwrap());
            sums.merge(more).unwrap();
            let [mut logs, more] = parts.map(|(first, x)| found.log_sums(view(x), first, &options).unwrap());
            logs.merge(more).unwrap();
            let (y, log) = (softmax(rows, &options).unwrap(), log_softmax(rows, &options).unwrap());
            let what = format!("{len} columns cut at {cut}, {others:?}");
            for (first, x) in parts {
                let columns = first..first + x.len();
                assert_same_bits(&what, &sums.softmax(view(x), first, &options).unwrap(), &y[columns.clone()]);
                assert_same_bits(&what, &logs.log_softmax(view(x), first, &options).unwrap(), &log[columns]);
            }
            assert_same_bits(&what, &logs.logsumexp::<E>(&options).unwrap(), &logsumexp(rows, &options).unwrap());
        }
    }
}
