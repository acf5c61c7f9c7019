//! Checks that every machine gives the same bits: a digest of each case's result is committed in
//! `tests/vectors/digest.tsv`.
//!
//! `EVENKEEL_DIGEST=whole` omits the checks of single rows and of threads, which are slow on emulators of other
//! machines. `EVENKEEL_DIGEST=environments` runs every case on every SIMD level in every floating-point environment. By
//! default, each environment runs one case in sixteen, and all cases along an axis other than the last, each on one
//! level. `EVENKEEL_BLESS=1` rewrites the file. A changed digest means that users get changed results. The Accuracy
//! section of the changelog must mention such a change.

#![deny(unsafe_code)]

mod cases;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[path = "../support/environment.rs"]
mod environment;
mod numbers;

use cases::{CASES, Case};
use evenkeel::simd::{Level, with_level};
use std::collections::{BTreeMap, BTreeSet};

/// Computes the 64-bit FNV-1a hash (Fowler, Noll and Vo) of the parts' bytes.
fn fnv(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for &byte in part.as_ref() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

fn digest(words: &[u64]) -> String {
    format!("{:016x}", fnv(words.iter().map(|word| word.to_le_bytes())))
}

fn committed() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("../vectors/digest.tsv").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once('\t').expect("each line of `digest.tsv` must be a case, a tab and its digest"))
        .collect()
}

/// Returns whether this run writes the digests. The file is included in this program, so only the next build can
/// compare with the new digests.
fn is_blessing() -> bool {
    std::env::var_os("EVENKEEL_BLESS").is_some()
}

fn bless(cases: &[Case]) {
    let mut text = String::from("# tests/digest: case, FNV-1a of its result's bits\n");
    let mut lines: Vec<_> = cases.iter().map(|case| format!("{}\t{}\n", case.name, digest(&case.whole()))).collect();
    lines.sort_unstable();
    text += &lines.concat();
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/digest.tsv"), text).unwrap();
}

/// Checks that a SIMD level, if available, gives the committed bits. If `of_16_bits` is true, only the cases in f16 and
/// bf16 run. Otherwise all other cases run.
fn assert_committed(level: Level, of_16_bits: bool) {
    if is_blessing() {
        return;
    }
    let (cases, committed) = (&*CASES, committed());
    assert!(cases.len() >= 1000, "expected at least 1000 cases with digests, got {}", cases.len());
    assert_eq!(
        cases.len(),
        committed.len(),
        "`digest.tsv` must have as many cases as this test; after adding cases, run `EVENKEEL_BLESS=1 cargo test \
         --test digest --features testing`"
    );
    if !level.is_available() {
        return;
    }
    let all = std::env::var("EVENKEEL_DIGEST").as_deref() != Ok("whole");
    // Large cases are also computed with this number of threads. It differs from the default number, which all other
    // computations use.
    let threads = if rayon::current_num_threads() == 1 { 2 } else { 1 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| case.name.contains("F16 ") == of_16_bits) {
        let mut check = |is_right: bool, how: &str| {
            if !is_right {
                wrong.push(format!("{}, {how}", case.name));
            }
        };
        let words = with_level(level, || case.whole()).unwrap();
        check(committed.get(case.name.as_str()) == Some(&digest(&words).as_str()), "whole");
        if all && case.rows() > 1 {
            check(with_level(level, || case.in_parts()).unwrap() == words, "rows alone");
        }
        if all && case.is_large() {
            let others = pool.install(|| with_level(level, || case.whole())).unwrap();
            check(others == words, &format!("{threads} threads"));
        }
    }
    assert!(
        wrong.is_empty(),
        "the digest of every result must equal the digest in `digest.tsv`, but {} digests differ: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
}

// The two tests of a level run in parallel.

#[test]
fn portable_gives_the_committed_bits() {
    if is_blessing() {
        return with_level(Level::Portable, || bless(&CASES)).unwrap();
    }
    assert_committed(Level::Portable, false);
}

#[test]
fn portable_gives_the_committed_bits_of_16_bit_types() {
    assert_committed(Level::Portable, true);
}

#[test]
fn avx2_gives_the_committed_bits() {
    assert_committed(Level::Avx2, false);
}

#[test]
fn avx2_gives_the_committed_bits_of_16_bit_types() {
    assert_committed(Level::Avx2, true);
}

#[test]
fn avx512_gives_the_committed_bits() {
    assert_committed(Level::Avx512, false);
}

#[test]
fn avx512_gives_the_committed_bits_of_16_bit_types() {
    assert_committed(Level::Avx512, true);
}

/// Checks the committed bits in environments that flush subnormals or change the rounding mode, on the calling thread
/// and in pools created in such an environment.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn every_environment_gives_the_committed_bits() {
    use environment::Environment;
    if is_blessing() {
        return;
    }
    let (cases, committed) = (&*CASES, committed());
    let every = if std::env::var("EVENKEEL_DIGEST").as_deref() == Ok("environments") { 1 } else { 16 };
    // Cases are chosen by the hash of their names. All cases along an axis other than the last also run, because there
    // are few.
    let is_chosen = |case: &&Case| fnv([&case.name]) % every == 0 || case.name.contains("/axis");
    let chosen: Vec<&Case> = cases.iter().filter(is_chosen).collect();
    let threads = std::env::var("EVENKEEL_DIGEST").as_deref() != Ok("whole");
    let large = cases.iter().filter(|case| threads && case.is_large() && fnv([&case.name]) % every < 4);
    let large: Vec<&Case> = large.collect();
    let mut wrong: BTreeMap<Environment, Vec<String>> = BTreeMap::new();
    let levels: Vec<Level> = Level::ALL.iter().copied().filter(|level| level.is_available()).collect();
    for (turn, environment) in Environment::ALL.into_iter().enumerate() {
        let wrong = wrong.entry(environment).or_default();
        let mut compare = |case: &Case, how: &str, words: &[u64]| {
            if committed.get(case.name.as_str()) != Some(&digest(words).as_str()) {
                wrong.push(format!("{}, {how}", case.name));
            }
        };
        let pool = environment.run(|| rayon::ThreadPoolBuilder::new().num_threads(2).build()).unwrap();
        assert!(
            pool.broadcast(|_| environment.is_set()).into_iter().all(|is_set| is_set),
            "the threads of a pool must inherit the floating-point environment {environment:?} of the creating thread"
        );
        for (at, &level) in levels.iter().enumerate() {
            // If `every` is above 1, each case runs on only one level per environment. The level changes with each
            // environment.
            let is_next = |case: &Case| (fnv([&case.name]) / 16) as usize % levels.len() == (at + turn) % levels.len();
            for case in chosen.iter().filter(|case| every == 1 || is_next(case)) {
                let words = environment.run(|| with_level(level, || case.whole()));
                compare(case, &format!("calling thread, {level}"), &words.unwrap());
            }
            for case in large.iter().filter(|case| every == 1 || is_next(case)) {
                let words = pool.install(|| with_level(level, || case.whole()));
                compare(case, &format!("pool, {level}"), &words.unwrap());
            }
        }
        assert!(
            pool.broadcast(|_| environment.is_set()).into_iter().all(|is_set| is_set),
            "the threads of a pool must keep the floating-point environment {environment:?}"
        );
    }
    let counts: Vec<_> = wrong.iter().map(|(environment, wrong)| (environment, wrong.len(), wrong.first())).collect();
    assert!(
        wrong.values().all(Vec::is_empty),
        "each floating-point environment must give the expected digests of {} cases and {} large cases; wrong \
         digests, as (environment, number of wrong digests, first wrong digest): {counts:#?}",
        chosen.len(),
        large.len()
    );
}

/// Checks that at least 1,000 digests are distinct, and that every case has its own name. Short results may have equal
/// digests.
#[test]
fn cases_differ() {
    let committed = committed();
    let distinct: BTreeSet<&str> = committed.values().copied().collect();
    assert!(
        distinct.len() >= 1000,
        "`digest.tsv` must have at least 1000 distinct digests, got {} distinct digests in {} lines",
        distinct.len(),
        committed.len()
    );
    let cases = &*CASES;
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "every case of the test must have its own name");
}
