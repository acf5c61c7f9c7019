//! Tests of attention with keys sharded across ranks.

use crate::sharded_rows::{Comm, LONG, RANKS, assert_same, cuts, on_ranks};
use crate::support::generate::{self, Bits, bell};
use evenkeel::sharded::{Exchanged, Process, Sharded};
use evenkeel::{Attention, AttentionPartial, Error, FullyMasked, Heads, Mask, Result, attention_with_lse};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(every_mask, shapes, hostile_keys, the_largest_values, nothing_to_attend_to);

/// Result, with each query's log-sum-exp.
type Both<E> = Result<(Vec<E>, Vec<f64>)>;

/// Seven numbers: of batch entries, query heads, key/value heads, queries, keys, features per query or key, and
/// features per value.
#[derive(Clone, Copy, Debug)]
pub struct Shape(pub [usize; 7]);

pub struct Case<E> {
    shape: Shape,
    q: Vec<E>,
    k: Vec<E>,
    v: Vec<E>,
}

impl<E: Bits> Case<E> {
    pub fn new(rng: &mut SmallRng, shape: Shape) -> Self {
        let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = shape;
        Case {
            shape,
            q: bell(rng, batch * heads * queries * features, 0.0, 2.0),
            k: bell(rng, batch * of_keys * keys * features, 0.1, 2.0),
            v: bell(rng, batch * of_keys * keys * of_values, 0.3, 1.0),
        }
    }

    fn queries(&self) -> Heads<'_, E> {
        let Shape([batch, heads, _, queries, _, features, _]) = self.shape;
        Heads::new(&self.q, [batch, heads, queries, features]).unwrap()
    }

    /// Calls `f` with a range of the keys and their values.
    fn with<T>(&self, own: &Range<usize>, f: impl FnOnce(Heads<'_, E>, Heads<'_, E>) -> T) -> T {
        let Shape([batch, _, of_keys, _, all, features, of_values]) = self.shape;
        let of = |data: &[E], width: usize| -> Vec<E> {
            let heads = data.chunks((all * width).max(1));
            heads.flat_map(|head| head[own.start * width..own.end * width].to_vec()).collect()
        };
        let (k, v) = (of(&self.k, features), of(&self.v, of_values));
        let k = Heads::new(&k, [batch, of_keys, own.len(), features]).unwrap();
        f(k, Heads::new(&v, [batch, of_keys, own.len(), of_values]).unwrap())
    }

    fn whole(&self, options: &Attention<'_>) -> Both<E> {
        self.with(&(0..self.shape.0[4]), |k, v| attention_with_lse(self.queries(), k, v, options))
    }

    fn part(&self, own: Range<usize>, options: &Attention<'_>) -> AttentionPartial {
        let keys = (own.start, self.shape.0[4]);
        self.with(&own, |k, v| AttentionPartial::new(self.queries(), k, v, keys, options).unwrap())
    }

    /// Runs attention with the keys sharded at `cuts`. Returns each rank's result and communication.
    pub fn dealt(&self, cuts: &[Range<usize>], options: &Attention<'_>) -> Vec<(Both<E>, Exchanged)> {
        on_ranks(cuts.len(), LONG, |rank, comm| {
            let shard = Sharded::new(&comm, cuts[rank].clone(), self.shape.0[4]);
            let both = self.with(&cuts[rank], |k, v| shard.attention(self.queries(), k, v, options));
            (both, comm.take())
        })
    }

    /// Fails unless every rank gets the bits that one rank with all keys computes.
    #[track_caller]
    fn same(&self, what: &str, cuts: &[Range<usize>], options: &Attention<'_>) {
        let what = format!("{what}, {:?} in {cuts:?}", self.shape);
        let whole = self.whole(options);
        for (ours, _) in self.dealt(cuts, options) {
            match (&ours, &whole) {
                (Ok((y, lse)), Ok((whole, of_whole))) => {
                    assert_same(&what, y, whole);
                    assert_same(&what, lse, of_whole);
                }
                _ => assert_eq!(
                    ours.unwrap_err(),
                    *whole.as_ref().unwrap_err(),
                    "{what}: expected the same error as from attention on one rank"
                ),
            }
        }
    }

    /// Runs [`Case::same`] with random cuts for every number of ranks, and with all keys on one of two ranks.
    #[track_caller]
    fn same_for_all(&self, what: &str, rng: &mut SmallRng, options: &Attention<'_>) {
        let all = self.shape.0[4];
        for ranks in RANKS {
            self.same(what, &cuts(rng, ranks, all, 256), options);
        }
        self.same(what, &[all..all, 0..all], options);
    }
}

fn every_mask<E: Bits>() {
    let mut rng = generate::rng("masked attention in shards");
    let (queries, keys) = (3, 700);
    let case = Case::<E>::new(&mut rng, Shape([2, 4, 2, queries, keys, 3, 5]));
    let keep: Vec<bool> = (0..2 * keys).map(|_| rng.random_bool(0.5)).collect();
    let bias: Vec<f32> =
        (0..queries * keys).map(|i| if i % 5 == 0 { f32::NEG_INFINITY } else { (i % 7) as f32 }).collect();
    // In the second batch entry, only keys of the first rank are unmasked.
    let lengths = [keys - 5, 100];
    let masks = [
        ("no mask", Mask::none()),
        ("causal", Mask::causal()),
        ("a window", Mask::causal().and_window(300)),
        ("flags", Mask::keep(&keep, &[2, 1, 1, keys])),
        ("a bias", Mask::bias(&bias, &[queries, keys])),
        ("lengths", Mask::lengths(&lengths)),
        ("all of them", Mask::bias(&bias, &[queries, keys]).and_keep(&keep, &[2, 1, 1, keys]).and_window(500)),
    ];
    let sinks = [0.5f32, -1.0, 30.0, f32::NEG_INFINITY];
    for (what, mask) in &masks {
        let masked = Attention::default().mask(mask);
        for options in [masked, masked.softcap(3.0), masked.sinks(&sinks[..]).scale(-0.7)] {
            let ranks = RANKS[rng.random_range(0..RANKS.len())];
            case.same(what, &cuts(&mut rng, ranks, keys, 256), &options);
            case.same(what, &[512..keys, 0..256, 256..512], &options);
        }
    }
}

/// Checks decoding steps, empty shapes, and a shape with so many queries that the kernel packs each block of keys more
/// than once.
fn shapes<E: Bits>() {
    let mut rng = generate::rng("shapes of attention in shards");
    for shape in [
        Shape([1, 1, 1, 1, 1, 1, 1]),
        Shape([2, 2, 2, 1, 1024, 4, 4]),
        Shape([1, 8, 1, 1, 1100, 5, 3]),
        Shape([2, 2, 1, 100, 300, 2, 2]),
        Shape([1, 2, 2, 3, 0, 2, 3]),
        Shape([1, 2, 2, 0, 300, 2, 3]),
        Shape([1, 2, 2, 3, 300, 0, 3]),
        Shape([1, 2, 2, 3, 300, 2, 0]),
    ] {
        let mask = Mask::causal();
        Case::<E>::new(&mut rng, shape).same_for_all("plain", &mut rng, &Attention::default().mask(&mask));
    }
}

fn hostile_keys<E: Bits>() {
    let mut rng = generate::rng("hostile attention in shards");
    let (keys, features) = (600, 2);
    let shape = Shape([1, 2, 1, 4, keys, features, 3]);
    let mask = Mask::causal();
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e38, -3e38, 1e308] {
        let mut case = Case::<E>::new(&mut rng, shape);
        case.k[rng.random_range(0..keys) * features] = E::from_wide(broken);
        // Only the last query attends to this key.
        case.k[(keys - 1) * features + 1] = E::from_wide(-broken);
        case.same_for_all(&format!("{broken} in a key"), &mut rng, &Attention::default().mask(&mask));
        let mut case = Case::<E>::new(&mut rng, shape);
        case.v[rng.random_range(0..keys) * 3] = E::from_wide(broken);
        case.same_for_all(&format!("{broken} in a value"), &mut rng, &Attention::default().mask(&mask));
        let mut case = Case::<E>::new(&mut rng, shape);
        case.q[2 * features] = E::from_wide(broken);
        case.same_for_all(&format!("{broken} in a query"), &mut rng, &Attention::default());
    }
    let mut case = Case::<E>::new(&mut rng, shape);
    case.k.iter_mut().enumerate().for_each(|(i, k)| *k = E::from_wide(if i % 3 == 0 { 3e38 } else { -3e38 }));
    case.same_for_all("scores at the limits", &mut rng, &Attention::default());
    // One key has an infinity, and a key of another block has a NaN. The results must not depend on the order in which
    // blocks are merged.
    case.k[0] = E::from_wide(f64::INFINITY);
    case.k[(keys - 1) * features] = E::from_wide(f64::NAN);
    case.same_for_all("both", &mut rng, &Attention::default());
}

/// Checks values whose sums overflow f64, although the results are finite.
fn the_largest_values<E: Bits>() {
    let mut rng = generate::rng("large values in shards");
    let mut case = Case::<E>::new(&mut rng, Shape([1, 2, 1, 3, 600, 2, 3]));
    let most =
        [f64::MAX, f64::from(f32::MAX), 65504.0].into_iter().find(|most| E::from_wide(*most).widen().is_finite());
    let most = E::from_wide(most.unwrap());
    // Changes only the middle feature, so that the other features are computed as before.
    case.v.iter_mut().skip(1).step_by(3).for_each(|v| *v = most);
    case.same_for_all("the largest values", &mut rng, &Attention::default());
    let (y, _) = case.dealt(&[0..256, 256..600], &Attention::default()).swap_remove(0).0.unwrap();
    assert!(
        y.iter().all(|y| y.widen().is_finite()),
        "attention with the largest values in v: expected finite results, got {y:?}"
    );
    // Adds a NaN in a query, and an infinity in a value.
    case.q[0] = E::from_wide(f64::NAN);
    case.v[0] = E::from_wide(f64::INFINITY);
    case.same_for_all("the largest values and a NaN", &mut rng, &Attention::default());
}

fn nothing_to_attend_to<E: Bits>() {
    let mut rng = generate::rng("masked rows in shards");
    let keys = 600;
    let case = Case::<E>::new(&mut rng, Shape([2, 2, 1, 2, keys, 2, 3]));
    let lengths = [0, 300];
    // On the first of three ranks, all keys are masked.
    let late: Vec<bool> = (0..keys).map(|key| key >= 256).collect();
    let never = vec![false; keys];
    for mask in [Mask::lengths(&lengths), Mask::keep(&late, &[keys]), Mask::keep(&never, &[keys])] {
        for policy in [FullyMasked::Zeros, FullyMasked::Error] {
            let options = Attention::default().mask(&mask).fully_masked(policy);
            case.same_for_all("masked rows", &mut rng, &options);
            case.same("masked rows", &[0..256, 512..keys, 256..512], &options);
            let sinks = [1.0f64, f64::NEG_INFINITY];
            case.same("masked rows with sinks", &[0..256, 256..keys], &options.sinks(&sinks[..]));
        }
    }
}

#[test]
fn alone() {
    let case = Case::<f32>::new(&mut generate::rng("attention alone"), Shape([1, 2, 1, 3, 700, 4, 5]));
    let shard = Sharded::new(&Process, 0..700, 700);
    let options = Attention::default();
    let alone = case.with(&(0..700), |k, v| shard.attention(case.queries(), k, v, &options));
    assert_eq!(alone.unwrap(), case.whole(&options).unwrap());
}

/// Runs `call` on four ranks. Rank 2 passes different arguments. Returns each rank's error.
fn with_deviant(call: impl Fn(&Case<f32>, &Comm, bool) -> Both<f32> + Sync) -> Vec<Error> {
    let case = Case::<f32>::new(&mut generate::rng("deviants of attention"), Shape([1, 2, 1, 3, 1024, 4, 5]));
    let errors = on_ranks(4, LONG, |rank, comm| call(&case, &comm, rank == 2).unwrap_err());
    for (rank, error) in errors.iter().enumerate().filter(|(rank, _)| *rank != 2) {
        assert!(
            matches!(error, Error::Collective { rank: Some(2), .. }),
            "rank {rank}: expected a Collective error about rank 2, got {error}"
        );
    }
    errors
}

/// Returns a rank's quarter of 1,024 keys.
fn quarter(comm: &Comm) -> Range<usize> {
    use evenkeel::sharded::Collective;
    256 * comm.rank()..256 * (comm.rank() + 1)
}

#[track_caller]
fn assert_said(errors: &[Error], expected: &[&str]) {
    for text in errors.iter().map(Error::to_string) {
        expected.iter().for_each(|expected| {
            assert!(text.contains(expected), "attention: the error must contain {expected:?}, got {text}")
        });
    }
}

#[test]
fn other_queries_or_options() {
    let other = |options: Attention<'static>| {
        with_deviant(move |case, comm, deviant| {
            let own = quarter(comm);
            let options = if deviant { options } else { Attention::default() };
            let shard = Sharded::new(comm, own.clone(), 1024);
            case.with(&own, |k, v| shard.attention(case.queries(), k, v, &options))
        })
    };
    assert_said(&other(Attention::default().scale(0.25)), &["rank 2 calls attention", "scale 0.25", "the usual scale"]);
    assert_said(&other(Attention::default().softcap(5.0)), &["softcap 5.0", "no softcap"]);
    const SINKS: &[f32] = &[0.0, 1.0];
    assert_said(&other(Attention::default().sinks(SINKS)), &["sinks of digest"]);
    assert_said(&other(Attention::default().fully_masked(FullyMasked::Error)), &["Zeros", "Error"]);
    let refused = other(Attention::default().fully_masked(FullyMasked::Uniform));
    assert!(
        matches!(refused[2], Error::InvalidArgument { argument: "fully_masked", .. }),
        "rank 2: the error must be about fully_masked, got {}",
        refused[2]
    );
    assert_said(&refused[..2], &["rank 2 reported an error", "fully_masked is Uniform"]);

    // One bit of one query differs.
    let errors = with_deviant(|case, comm, deviant| {
        let own = quarter(comm);
        let mut q = case.q.clone();
        q[23] = if deviant { f32::from_bits(q[23].to_bits() ^ 1) } else { q[23] };
        let q = Heads::new(&q, [1, 2, 3, 4]).unwrap();
        let shard = Sharded::new(comm, own.clone(), 1024);
        case.with(&own, |k, v| shard.attention(q, k, v, &Attention::default()))
    });
    assert_said(&errors, &["rank 2 calls attention of F32, queries [1, 2, 3, 4] of digest"]);
}

#[test]
fn other_shapes_and_cuts() {
    let errors = with_deviant(|case, comm, deviant| {
        let own = quarter(comm);
        let shard = Sharded::new(comm, own, 1024);
        let heads = if deviant { 2 } else { 1 };
        let (k, v) = (vec![0.5; heads * 256 * 4], vec![0.5; heads * 256 * 5]);
        let k = Heads::new(&k, [1, heads, 256, 4]).unwrap();
        shard.attention(case.queries(), k, Heads::new(&v, [1, heads, 256, 5]).unwrap(), &Attention::default())
    });
    assert_said(&errors, &["rank 2 calls", "2 heads of 1024 keys", "1 heads of 1024 keys"]);
    // A rank must pass as many keys as its range says.
    let errors = with_deviant(|case, comm, deviant| {
        let own = quarter(comm);
        let some = if deviant { own.start..own.end - 1 } else { own.clone() };
        let shard = Sharded::new(comm, own, 1024);
        case.with(&some, |k, v| shard.attention(case.queries(), k, v, &Attention::default()))
    });
    assert!(
        matches!(errors[2], Error::ShapeMismatch { argument: "k", .. }),
        "rank 2 with one key too few: expected a ShapeMismatch error about k, got {}",
        errors[2]
    );
    assert_said(&errors, &["255 keys", "512..768"]);
    // Cuts must be at multiples of 256, and every key must belong to a rank.
    let case = Case::<f32>::new(&mut generate::rng("cuts of attention"), Shape([1, 1, 1, 2, 600, 2, 2]));
    for (ours, _) in case.dealt(&[0..100, 100..600], &Attention::default()) {
        assert_said(&[ours.unwrap_err()], &["a multiple of 256"]);
    }
    for (ours, _) in case.dealt(&[0..256, 512..600], &Attention::default()) {
        assert_said(&[ours.unwrap_err()], &["no rank has columns 256..512, which come before the columns of rank 1"]);
    }
    let uniform = Attention::default().fully_masked(FullyMasked::Uniform);
    for (ours, _) in case.dealt(&[0..256, 256..600], &uniform) {
        assert!(
            matches!(ours, Err(Error::InvalidArgument { argument: "fully_masked", .. })),
            "FullyMasked::Uniform: expected an InvalidArgument error about fully_masked, got {ours:?}"
        );
    }
}

/// Checks that a partial result rejects invalid words with an error, and does not change.
#[test]
fn words_that_are_not_a_partial() {
    let mut rng = generate::rng("words of attention");
    let case = Case::<f64>::new(&mut rng, Shape([1, 2, 1, 2, 600, 2, 3]));
    let mask = Mask::causal().and_window(100);
    let options = Attention::default().mask(&mask);
    let part = |own| case.part(own, &options);
    let (mut all, sent) = (part(256..512), [part(0..256).to_words(), part(512..600).to_words()]);
    let refuses = |all: &mut AttentionPartial, what: &str, words: &[u64]| {
        let before = all.to_words();
        let error = all.merge_words(words).unwrap_err();
        assert!(
            matches!(error, Error::ShapeMismatch { .. } | Error::InvalidArgument { .. }),
            "{what}: expected ShapeMismatch or InvalidArgument, got {error}"
        );
        assert_eq!(all.to_words(), before, "rejecting {what} must not change the partial result");
    };
    // A partial result has eight words of header and two words per block. In a block, a query that attends to no key
    // takes one word, its maximum of -inf. Any other query takes five words: its maximum, its sum, and one for each of
    // the three features of the values.
    assert_eq!(sent.each_ref().map(Vec::len), [10 + 4, 10 + 4 * 5]);
    let words = &sent[1];
    (0..words.len()).filter(|len| *len != 8).for_each(|len| refuses(&mut all, "a truncated message", &words[..len]));
    refuses(&mut all, "one additional word", &[&words[..], &[0]].concat());
    for at in 0..10 {
        for lie in [0, 1, 2, 7, 1 << 40, u64::MAX] {
            let mut words = words.clone();
            if std::mem::replace(&mut words[at], lie) != lie {
                refuses(&mut all, &format!("word {at} as {lie}"), &words);
            }
        }
    }
    for sum in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut words = words.clone();
        words[11] = sum.to_bits();
        refuses(&mut all, &format!("a sum of {sum}"), &words);
    }
    refuses(&mut all, "the same block twice", &[&words[..], &words[8..]].concat());
    refuses(&mut all, "a block that was merged already", &part(0..512).to_words());
    let of_f32 = Case::<f32>::new(&mut rng, Shape([1, 2, 1, 2, 600, 2, 3]));
    refuses(&mut all, "another type", &of_f32.part(512..600, &options).to_words());
    all.merge_words(&words[..8]).unwrap();
    // A partial result without keys of its own can merge the words of all ranks.
    let mut none = part(0..0);
    for words in sent.iter().chain([&all.to_words()]) {
        none.merge_words(words).unwrap();
    }
    assert_eq!(none.finish::<f64>(&options).unwrap(), case.whole(&options).unwrap());
}

/// Checks that a rank reports an invalid partial result from another rank.
#[test]
fn a_rank_that_gives_something_else() {
    use evenkeel::sharded::Collective;
    let case = Case::<f32>::new(&mut generate::rng("liars of attention"), Shape([1, 1, 1, 2, 600, 2, 2]));
    let errors = on_ranks(2, LONG, |rank, comm| {
        if rank == 0 {
            let own = 0..256;
            let shard = Sharded::new(&comm, own.clone(), 600);
            return Some(
                case.with(&own, |k, v| shard.attention(case.queries(), k, v, &Attention::default())).unwrap_err(),
            );
        }
        // Collective of rank 1 that changes a word of each long message.
        struct Liar<'c>(&'c Comm);
        impl Collective for Liar<'_> {
            fn rank(&self) -> usize {
                1
            }
            fn size(&self) -> usize {
                2
            }
            fn max(&self, words: &mut [u64]) -> Result<()> {
                self.0.max(words)
            }
            fn sum(&self, words: &mut [u64]) -> Result<()> {
                self.0.sum(words)
            }
            fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
                // Word 5 is part of the shape.
                let mut words = words.to_vec();
                if words.len() > 3 {
                    words[5] = 1 << 50;
                }
                self.0.gather(&words)
            }
        }
        let (liar, own) = (Liar(&comm), 256..600);
        let shard = Sharded::new(&liar, own.clone(), 600);
        drop(case.with(&own, |k, v| shard.attention(case.queries(), k, v, &Attention::default())));
        None
    });
    let error = errors[0].as_ref().unwrap();
    assert!(
        matches!(error, Error::Collective { op: "attention", rank: Some(1), .. }),
        "attention on rank 0: expected a Collective error about rank 1, got {error}"
    );
    assert_said(std::slice::from_ref(error), &["rank 1 sent an invalid partial result", "words"]);
}

/// Checks that the ranks repeat their exchange exactly if the inputs are f64 and a result is not finite.
#[test]
fn a_second_time() {
    fn calls<E: Bits>(large: f64) -> u64 {
        let mut case = Case::<E>::new(&mut generate::rng("twice"), Shape([1, 1, 1, 1, 512, 2, 2]));
        case.v.fill(E::from_wide(large));
        let mut dealt = case.dealt(&[0..256, 256..512], &Attention::default());
        dealt.swap_remove(0).1.calls
    }
    assert_eq!([calls::<f64>(1.0), calls::<f64>(f64::MAX)], [3, 5]);
    assert_eq!([calls::<f32>(1.0), calls::<f32>(f64::INFINITY)], [3, 3]);
}
