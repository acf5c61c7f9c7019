//! Tests of a rank that sends false numbers. The other rank must return an error or a result; it must not panic, nor
//! allocate more memory than exists.

use crate::sharded_rows::LONG;
use crate::support::generate;
use evenkeel::sharded::{Collective, GradShard, Process, Sharded, Threads, clip_grad_norm};
use evenkeel::{
    Attention, ClipGradNorm, CrossEntropy, Draw, Error, Heads, LayerNorm, Request, Result, RmsNorm, Rows,
    SamplerConfig, Softmax,
};
use rand::RngExt;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Collective of rank 0 of two ranks. `lie` returns each word that rank 1 sends. Its arguments are the number of the
/// exchange, the index of the word, and rank 0's word.
struct WithLiar<L> {
    exchanges: Cell<usize>,
    lie: L,
}

impl<L: Fn(usize, usize, u64) -> u64> WithLiar<L> {
    fn theirs<'a>(&'a self, words: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let exchange = self.exchanges.replace(self.exchanges.get() + 1);
        words.iter().enumerate().map(move |(i, word)| (self.lie)(exchange, i, *word))
    }
}

impl<L: Fn(usize, usize, u64) -> u64> Collective for WithLiar<L> {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        2
    }
    fn max(&self, words: &mut [u64]) -> Result<()> {
        let theirs: Vec<u64> = self.theirs(words).collect();
        words.iter_mut().zip(theirs).for_each(|(word, other)| *word = (*word).max(other));
        Ok(())
    }
    fn sum(&self, words: &mut [u64]) -> Result<()> {
        let theirs: Vec<u64> = self.theirs(words).collect();
        words.iter_mut().zip(theirs).for_each(|(word, other)| *word = word.wrapping_add(other));
        Ok(())
    }
    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        let theirs = self.theirs(words).collect();
        Ok([words.to_vec(), theirs].concat())
    }
}

/// False lengths and counts: near the true numbers, or larger than any memory.
const LIES: [u64; 10] = [0, 1, 3, 255, 257, 1 << 45, 1 << 61, 1 << 63, u64::MAX - 1, u64::MAX];

const OPS: [&str; 11] = [
    "softmax",
    "log_softmax",
    "logsumexp",
    "softmax_backward",
    "log_softmax_backward",
    "rms_norm",
    "layer_norm",
    "layer_norm_backward",
    "cross_entropy",
    "sample",
    "attention",
];

/// Runs an op on this rank's 256 of 512 columns. The other rank has the rest.
fn run<E: evenkeel::Element>(op: &str, x: &[E], comm: &impl Collective) -> Result<()> {
    let shard = Sharded::new(comm, 256 * comm.rank()..256 * (comm.rank() + 1), 512);
    let rows = Rows::new(x, x.len() / 256, 256)?;
    let options = Softmax::default();
    match op {
        "softmax" => shard.softmax(rows, &options).map(drop),
        "log_softmax" => shard.log_softmax(rows, &options).map(drop),
        "logsumexp" => shard.logsumexp(rows, &options).map(drop),
        "softmax_backward" => shard.softmax_backward(rows, rows, &options).map(drop),
        "log_softmax_backward" => shard.log_softmax_backward(rows, rows, &options).map(drop),
        "rms_norm" => shard.rms_norm(rows, &RmsNorm::default()).map(drop),
        "layer_norm" => shard.layer_norm(rows, &LayerNorm::default()).map(drop),
        "layer_norm_backward" => shard.layer_norm_backward(rows, rows, &LayerNorm::default()).map(drop),
        "cross_entropy" => shard.cross_entropy(rows, &[3, 300], &CrossEntropy::default()).map(drop),
        "sample" => {
            let samplers = [
                SamplerConfig::default().validate()?,
                SamplerConfig::default().top_k(20).top_p(0.9).min_p(0.01).validate()?,
            ];
            let requests = samplers.each_ref().map(|sampler| Request { sampler, step: Draw::default().into() });
            shard.sample(rows, None, &requests).map(drop)
        }
        _ => {
            let heads = Heads::new(x, [1, 1, 256, 2])?;
            let query = Heads::new(&x[..4], [1, 1, 2, 2])?;
            shard.attention(query, heads, heads, &Attention::default()).map(drop)
        }
    }
}

/// Passes each exchange on to `comm`, and records the words that this rank sends.
struct Recorded<'a> {
    comm: &'a Threads,
    words: RefCell<Vec<Vec<u64>>>,
}

impl Collective for Recorded<'_> {
    fn rank(&self) -> usize {
        self.comm.rank()
    }
    fn size(&self) -> usize {
        self.comm.size()
    }
    fn max(&self, words: &mut [u64]) -> Result<()> {
        self.words.borrow_mut().push(words.to_vec());
        self.comm.max(words)
    }
    fn sum(&self, words: &mut [u64]) -> Result<()> {
        self.words.borrow_mut().push(words.to_vec());
        self.comm.sum(words)
    }
    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        self.words.borrow_mut().push(words.to_vec());
        self.comm.gather(words)
    }
}

/// Runs an op on two ranks, and returns the words that rank 1 sends in each exchange.
fn true_words<E: evenkeel::Element>(op: &str, x: &[E]) -> Vec<Vec<u64>> {
    let ranks = Threads::new(2, LONG).unwrap();
    let mut words = std::thread::scope(|scope| {
        let each: Vec<_> = (ranks.iter())
            .map(|comm| {
                scope.spawn(move || {
                    let recorded = Recorded { comm, words: RefCell::default() };
                    run(op, x, &recorded).unwrap_or_else(|error| panic!("{op} of {} on two ranks: {error}", E::DTYPE));
                    recorded.words.into_inner()
                })
            })
            .collect();
        each.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
    });
    words.remove(1)
}

#[test]
fn any_word_of_another_rank_may_be_a_lie() {
    fn of<E: generate::Bits>() -> u32 {
        let x = generate::bell::<E>(&mut generate::rng("liars"), 2 * 256, 0.0, 3.0);
        let mut refused = 0;
        for op in OPS {
            let words = true_words(op, &x);
            // A false word may lead to words that were not recorded. Rank 1 then sends rank 0's words.
            let truth =
                |at: usize, i: usize, own: u64| words.get(at).and_then(|words| words.get(i)).copied().unwrap_or(own);
            let outcome = run(op, &x, &WithLiar { exchanges: Cell::new(0), lie: truth });
            assert!(
                outcome.is_ok(),
                "{op} of {}: expected a result if the other rank does not lie, got {outcome:?}",
                E::DTYPE
            );
            for (exchange, sent) in words.iter().enumerate() {
                for index in 0..sent.len().min(12) {
                    for word in LIES {
                        let lie = |at, i, own| if (at, i) == (exchange, index) { word } else { truth(at, i, own) };
                        let comm = WithLiar { exchanges: Cell::new(0), lie };
                        let result = catch_unwind(AssertUnwindSafe(|| run(op, &x, &comm)));
                        let what = format!("{op} of {}: {word} for word {index} of exchange {exchange}", E::DTYPE);
                        let result =
                            result.unwrap_or_else(|_| panic!("{what}: expected an error or a result, got a panic"));
                        // The first three words are the digest of the call and the two ends of the columns. If one of
                        // them is false, the op must return an error. Other false words can be possible values, which
                        // no rank can detect.
                        refused += u32::from(result.is_err());
                        let is_of_call = exchange == 0 && index < 3;
                        assert!(!is_of_call || result.is_err(), "{what}: expected an error, got a result");
                    }
                }
            }
        }
        refused
    }
    // False lengths and ranges in later exchanges must be refused too.
    assert!(of::<f32>() > 500);
    assert!(of::<f64>() > 500);
}

#[test]
fn lengths_that_no_memory_has() {
    let x = [0.5f32; 512];
    for words in [1 << 61, u64::MAX] {
        // In the second exchange, each rank states its number of words.
        let lie = |at: usize, i: usize, word: u64| match (at, i) {
            (0, 1) => 256,
            (0, 2) => 512,
            (1, 0) => words,
            _ => word,
        };
        let error = run("attention", &x, &WithLiar { exchanges: Cell::new(0), lie }).unwrap_err();
        let message = format!("attention: rank 1 has {words} words; at most 1152921504606846975 are possible");
        assert_eq!(error.to_string(), message);
        assert!(matches!(error, Error::Collective { rank: Some(1), .. }));
    }
    let lie = |at: usize, i: usize, word: u64| match (at, i) {
        (0, 1) => 256,
        (0, 2) => 512,
        (1, 0) => 1 << 50,
        _ => word,
    };
    let error = run("attention", &x, &WithLiar { exchanges: Cell::new(0), lie }).unwrap_err();
    assert_eq!(error.to_string(), "attention: could not allocate 18014398509481984 bytes for the exchanged words");
}

#[test]
fn shards_of_gradients_that_cannot_be() {
    let mut refused = 0;
    for exchange in 0..3 {
        for index in 0..9 {
            for word in LIES {
                let lie = |at: usize, i: usize, true_word: u64| match (at, i) {
                    _ if (at, i) == (exchange, index) => word,
                    (1, 3) => 256,
                    (1, 4) => 512,
                    _ => true_word,
                };
                let comm = WithLiar { exchanges: Cell::new(0), lie };
                let mut grad = [1.0f32; 256];
                let result = catch_unwind(AssertUnwindSafe(|| {
                    let shard = GradShard::cut(0, &mut grad, &[512], 0, 0..256);
                    clip_grad_norm(&comm, &mut [shard], &ClipGradNorm::new(1.0))
                }));
                let what = format!("{word} for word {index} of exchange {exchange}");
                refused += u32::from(
                    result
                        .unwrap_or_else(|_| {
                            panic!("clip_grad_norm with {what}: expected an error or a result, got a panic")
                        })
                        .is_err(),
                );
            }
        }
    }
    assert!(
        refused > 50,
        "clip_grad_norm must reject false data of a rank in more than 50 cases, but rejected it in {refused}"
    );
}

/// Checks shards without elements. They need no memory, so their axes may have any length.
#[test]
fn shards_without_elements() {
    let mut none: [f32; 0] = [];
    for (dims, axis, own) in [
        (&[1 << 62, 2][..], 1, 0..0),
        (&[usize::MAX, 0], 1, 0..0),
        (&[0, usize::MAX], 0, 0..0),
        (&[usize::MAX, usize::MAX], 0, 0..0),
        (&[5], usize::MAX, 0..0),
        (&[5], 0, 3..usize::MAX),
        #[allow(clippy::reversed_empty_ranges)]
        (&[5], 0, 5..3),
        (&[], 0, 0..0),
    ] {
        let shard = GradShard::cut(0, &mut none, dims, axis, own.clone());
        let result = clip_grad_norm(&Process, &mut [shard], &ClipGradNorm::new(1.0));
        assert!(
            result.is_err() || dims.contains(&0),
            "clip_grad_norm of the shard {own:?} of axis {axis} of {dims:?}: expected an error, got {result:?}"
        );
    }
}

#[test]
fn more_columns_or_ranks_than_there_are() {
    let x = [0.5f32; 4];
    let rows = Rows::new(&x, 2, 2).unwrap();
    let mut rng = generate::rng("liars, columns");
    for _ in 0..2000 {
        let mut count = || [0, 1, 2, 256, 1 << 47, 1 << 63, usize::MAX - 1, usize::MAX][rng.random_range(0..8)];
        let (start, end, all) = (count(), count(), count());
        let shard = Sharded::new(&Process, start..end, all);
        let what = format!("{start}..{end} of {all}");
        let result = catch_unwind(AssertUnwindSafe(|| {
            let softmax = shard.softmax(rows, &Softmax::default()).is_ok();
            let norms = shard.rms_norm(rows, &RmsNorm::default()).is_ok();
            let gradients = shard.layer_norm_backward(rows, rows, &LayerNorm::default().weight(&x)).is_ok();
            let losses = shard.cross_entropy(rows, &[0, 1], &CrossEntropy::default()).is_ok();
            [softmax, norms, losses, gradients]
        }));
        let whole = (start, end, all) == (0, 2, 2);
        assert_eq!(
            result.unwrap_or_else(|_| panic!("shard of columns {what}: expected errors or results, got a panic")),
            [whole, whole, whole, false],
            "shard of columns {what}: expected an error from {}",
            if whole { "layer_norm_backward and no other op" } else { "every op" }
        );
    }
    let refused = Threads::new(usize::MAX, LONG).unwrap_err();
    assert!(
        matches!(refused, Error::OutOfMemory { op: "threads", .. }),
        "`Threads::new(usize::MAX, ...)`: expected an OutOfMemory error, got {refused}"
    );
    assert!(Threads::new(0, LONG).unwrap().is_empty());
}

/// Checks that a rank with the longest possible timeout waits for the other ranks.
#[test]
fn a_deadline_that_the_clock_does_not_reach() {
    let ranks = Threads::new(3, Duration::MAX).unwrap();
    let sums: Vec<u64> = std::thread::scope(|scope| {
        let each: Vec<_> = ranks
            .into_iter()
            .map(|rank| {
                scope.spawn(move || {
                    let mut word = [rank.rank() as u64];
                    rank.sum(&mut word).map(|()| word[0]).unwrap()
                })
            })
            .collect();
        each.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert_eq!(sums, [3, 3, 3]);
}

/// Checks collectives that contradict themselves. Some return fewer words than their ranks sent in total. In others,
/// the number of the rank is not below the number of ranks.
#[test]
fn collectives_that_cannot_be() {
    struct Odd(usize, usize);
    impl Collective for Odd {
        fn rank(&self) -> usize {
            self.0
        }
        fn size(&self) -> usize {
            self.1
        }
        fn max(&self, _: &mut [u64]) -> Result<()> {
            Ok(())
        }
        fn sum(&self, _: &mut [u64]) -> Result<()> {
            Ok(())
        }
        fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
            Ok(words.to_vec())
        }
    }
    let x = [0.5f32; 4];
    for (rank, size, message) in [
        (0, usize::MAX, "softmax: gathered 3 words; expected 18446744073709551615"),
        (0, 0, "softmax: rank is 0; it must be below 0, the number of ranks"),
        (5, 5, "softmax: rank is 5; it must be below 5, the number of ranks"),
        (0, 2, "softmax: gathered 3 words; expected 6"),
    ] {
        let odd = Odd(rank, size);
        let shard = Sharded::new(&odd, 0..2, 2);
        let error = shard.softmax(Rows::new(&x, 2, 2).unwrap(), &Softmax::default()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
