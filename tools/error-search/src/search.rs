//! Hill climbing from random candidates and from the best candidates so far. Each thread evaluates one candidate at a
//! time.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict};
use crate::spec::Spec;
use evenkeel::DType;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Number of candidates kept per op and type, as starting points of further climbs.
const KEPT: usize = 12;
/// Number of changes without improvement after which a climb ends.
const PATIENCE: usize = 250;
/// Smallest gain, as a fraction of the bound, for which a change counts as an improvement and is printed.
const LEAST_GAIN: f64 = 1e-3;
/// Longest duration of a climb. Without a limit, climbs from candidates of many columns would take very long. A short
/// search reduces the limit, so that each op and type has several climbs.
const LONGEST_CLIMB: Duration = Duration::from_secs(5);

/// Op in a storage type, with the best candidates so far.
struct Target<'a> {
    op: &'a Op,
    dtype: DType,
    spec: Spec,
    best: Mutex<Best>,
}

#[derive(Default)]
struct Best {
    /// Candidates in descending order of their ratios.
    kept: Vec<(f64, Case)>,
    verdict: Option<Verdict>,
    /// Ratio that was printed last.
    printed: f64,
    /// Number of findings beyond the bound that the slow reference did not confirm.
    refuted: u64,
}

/// Parameters of a search.
pub struct Plan {
    /// Duration of the search.
    pub time: Duration,
    /// Seed. Each thread derives its own seed from it.
    pub seed: u64,
    pub threads: u64,
    /// Candidates to start with.
    pub first: Vec<Case>,
}

/// Result of a search.
pub struct Outcome {
    /// Number of candidates that were evaluated.
    pub evaluated: u64,
    /// Worst verdict per op and type, with the number of unconfirmed findings.
    pub worst: Vec<(&'static str, DType, Option<Verdict>, u64)>,
}

impl Outcome {
    /// Returns whether a bound is exceeded.
    pub fn exceeds(&self) -> bool {
        self.worst.iter().any(|(_, _, verdict, _)| verdict.is_some_and(|verdict| verdict.ratio > 1.0))
    }
}

/// Runs the search, and prints a line for each improvement.
pub fn search(ops: &[&Op], dtypes: &[DType], plan: &Plan) -> Outcome {
    let wanted = |op: &&Op, dtype: &DType| op.dtypes.contains(dtype);
    let targets: Vec<Target> = ops
        .iter()
        .flat_map(|op| dtypes.iter().filter(move |dtype| wanted(op, dtype)).map(move |&dtype| (*op, dtype)))
        .map(|(op, dtype)| Target { op, dtype, spec: (op.spec)(dtype), best: Mutex::default() })
        .collect();
    let start = Instant::now();
    for case in &plan.first {
        let target = targets.iter().find(|target| target.op.name == case.op && target.dtype == case.dtype);
        if let Some(target) = target.filter(|target| target.spec.fits(case))
            && let Some(verdict) = (target.op.judge)(case, Precision::Fast)
        {
            target.offer(case, verdict, start);
        }
    }
    let evaluated = AtomicU64::new(0);
    let share = plan.time.mul_f64(plan.threads as f64 / (4 * targets.len().max(1)) as f64);
    let longest = LONGEST_CLIMB.min(share);
    std::thread::scope(|scope| {
        for thread in 0..plan.threads {
            let (targets, evaluated) = (&targets, &evaluated);
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread);
                // Each thread goes through all ops and types in turn. Threads start at different places.
                let offset = thread as usize * targets.len() / plan.threads as usize;
                for turn in 0.. {
                    if start.elapsed() >= plan.time || targets.is_empty() {
                        return;
                    }
                    let target = &targets[(offset + turn) % targets.len()];
                    evaluated.fetch_add(target.climb(&mut rng, (start, start + plan.time), longest), Ordering::Relaxed);
                }
            });
        }
    });
    let worst = |target: Target<'_>| {
        let best = target.best.into_inner().unwrap_or_default();
        (target.op.name, target.dtype, best.verdict, best.refuted)
    };
    Outcome { evaluated: evaluated.into_inner(), worst: targets.into_iter().map(worst).collect() }
}

impl Target<'_> {
    /// Runs one climb, and returns the number of candidates evaluated.
    fn climb(&self, rng: &mut SmallRng, (start, end): (Instant, Instant), longest: Duration) -> u64 {
        let began = Instant::now();
        let mut evaluated = 0;
        let mut current = self.first(rng);
        let mut ratio = None;
        let mut failures = 0;
        let mut candidate = current.clone();
        while failures < PATIENCE && began.elapsed() < longest && Instant::now() < end {
            evaluated += 1;
            let verdict = (self.op.judge)(&candidate, Precision::Fast);
            let found = verdict.map_or(f64::NEG_INFINITY, |verdict| verdict.ratio);
            let before = ratio.unwrap_or(f64::NEG_INFINITY);
            if found > before + LEAST_GAIN {
                failures = 0;
            } else {
                failures += 1;
            }
            // Accepts equally good candidates too, and sometimes a slightly worse one. This helps the climb to leave a
            // plateau.
            if ratio.is_none() || found >= before || (found > 0.97 * before && rng.random_bool(0.02)) {
                (current, ratio) = (candidate, Some(found));
                if let Some(verdict) = verdict
                    && found > before
                {
                    self.offer(&current, verdict, start);
                }
            }
            candidate = self.spec.mutated(&current, rng);
        }
        evaluated
    }

    /// Returns the first candidate of a climb.
    fn first(&self, rng: &mut SmallRng) -> Case {
        let kept = self.lock().kept.iter().map(|(_, case)| case.clone()).collect::<Vec<_>>();
        if kept.is_empty() || rng.random_bool(0.5) {
            return self.spec.random(self.op.name, self.dtype, rng);
        }
        let case = &kept[rng.random_range(0..kept.len())];
        if rng.random_bool(0.3) {
            let other = &kept[rng.random_range(0..kept.len())];
            return self.spec.crossed(case, other, rng);
        }
        self.spec.mutated(case, rng)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Best> {
        self.best.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Keeps a candidate if it is among the best, and prints it if its ratio exceeds the last printed ratio by
    /// [`LEAST_GAIN`]. If the candidate exceeds the error bound, its ratio is first computed again with the slow
    /// reference.
    fn offer(&self, case: &Case, verdict: Verdict, start: Instant) {
        let is_best = {
            let best = self.lock();
            let enters = best.kept.len() < KEPT || best.kept.last().is_some_and(|(ratio, _)| verdict.ratio > *ratio);
            if !enters {
                return;
            }
            best.verdict.is_none_or(|best| verdict.ratio > best.ratio)
        };
        let mut verdict = verdict;
        if verdict.ratio > 1.0 {
            match (self.op.judge)(case, Precision::Slow) {
                Some(slow) if slow.ratio > 1.0 => verdict = slow,
                _ => {
                    self.lock().refuted += 1;
                    return;
                }
            }
        }
        let mut best = self.lock();
        best.kept.push((verdict.ratio, case.clone()));
        best.kept.sort_by(|a, b| b.0.total_cmp(&a.0));
        best.kept.truncate(KEPT);
        if is_best && best.verdict.is_none_or(|best| verdict.ratio > best.ratio) {
            best.verdict = Some(verdict);
            if verdict.ratio < best.printed + LEAST_GAIN {
                return;
            }
            best.printed = verdict.ratio;
            println!(
                "{:9.1} s {} {}",
                start.elapsed().as_secs_f64(),
                describe(self.op.name, self.dtype, &verdict),
                case.text()
            );
        }
    }
}

/// Describes a verdict in one line.
pub fn describe(name: &str, dtype: DType, verdict: &Verdict) -> String {
    let Verdict { ratio, error, bound, index, got, exact } = verdict;
    let over = if *ratio > 1.0 { " EXCEEDED" } else { "" };
    format!("{name} {dtype}: {error:.5} of {bound} ULP, {ratio:.4} of the bound{over}, [{index}] {got:e} for {exact:e}")
}
