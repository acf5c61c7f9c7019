//! Compares each op's results on the device with the CPU's, bit for bit.

use crate::each_op;
use crate::error::{Error, Result};
use crate::memory::{Placed, Stream};
use crate::numbers::{self, Case};
use crate::ops::{Extent, Number, Op, QUERIES, Ready, Results, Shape};
use crate::record::{Check, Checks, Digest, write_json};
use crate::watchdog::Watchdog;
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ops to check, the device, and the file for the results.
pub struct Plan<'a> {
    /// Stream of the device, or `None` to compute only the CPU's digests.
    pub stream: Option<&'a Stream>,
    /// Names of the ops to check.
    pub ops: &'a [&'a str],
    /// If this is 0, runs the ordinary checks. Otherwise, runs only calls with more than 2^32 elements, each with this
    /// many blocks of rows.
    pub blocks: usize,
    /// File that the results are written to after each op.
    pub out: &'a Path,
}

impl Plan<'_> {
    fn has(&self, op: &str) -> bool {
        self.ops.contains(&op)
    }
}

/// Time limit of an op. An op that takes longer is assumed to have a kernel that never ends.
const LONGEST: Duration = Duration::from_secs(40);
/// Reason that is stored while a check runs. It remains in the file if the process ends during the check.
const BEGUN: &str = "the program ended during this op";

/// Runs the checks that are not in `checks` yet. Returns `Ok` if the device is still usable.
///
/// # Errors
/// Returns the device's error, after writing it to the file.
pub fn run(plan: &Plan, checks: &mut Checks) -> Result<()> {
    macro_rules! op {
        ($op:ty) => {
            if plan.blocks == 0 && plan.has(<$op>::NAME) {
                one::<$op, f32>(plan, checks)?;
                one::<$op, f16>(plan, checks)?;
                one::<$op, bf16>(plan, checks)?;
            }
        };
    }
    each_op!(op);
    macro_rules! beyond {
        ($op:ty) => {
            if plan.blocks > 0 && <$op>::IS_OF_ROWS && plan.has(<$op>::NAME) {
                let what = format!("BF16, {} rows of {}", plan.blocks * BLOCK.rows, BLOCK.cols);
                written(plan, checks, <$op>::NAME, what, |check, stream, _| beyond::<$op>(plan, check, stream))?;
            }
        };
    }
    each_op!(beyond);
    Ok(())
}

fn one<O: Op, E: Number>(plan: &Plan, checks: &mut Checks) -> Result<()> {
    let cases = numbers::cases(checks.seed, O::WAYS.len(), checks.part, checks.elements);
    let step = if checks.elements < numbers::SMALL { O::SMALL_CASE_STEP.div_ceil(checks.part.max(1)) } else { 1 };
    written(plan, checks, O::NAME, E::DTYPE.to_string(), |check, stream, digest| {
        for case in cases.iter().step_by(step) {
            let case = Case { shape: O::shape(case.shape), ..*case };
            compare_case::<O, E>(check, stream, digest, &case)?;
        }
        Ok(())
    })
}

/// Records that a check has started, runs it, and records its result.
fn written(
    plan: &Plan,
    checks: &mut Checks,
    op: &str,
    dtype: String,
    body: impl FnOnce(&mut Check, Option<&Stream>, &mut Digest) -> Result<()>,
) -> Result<()> {
    if checks.checks.iter().any(|check| check.op == op && check.dtype == dtype) {
        return Ok(());
    }
    let at = checks.checks.len();
    let stopped = Some(BEGUN.to_string());
    checks.checks.push(Check { op: op.to_string(), dtype: dtype.clone(), stopped, ..Check::default() });
    write_json(plan.out, checks)?;
    let _watchdog = plan.stream.map(|_| Watchdog::new(format!("{op}, {dtype}"), LONGEST));
    let (start, mut digest) = (Instant::now(), Digest::NEW);
    let check = &mut checks.checks[at];
    let ended = body(check, plan.stream, &mut digest);
    check.stopped = ended.as_ref().err().map(|error| error.to_string());
    check.digest = digest.to_string();
    check.seconds = start.elapsed().as_secs_f64();
    println!(
        "{op}, {dtype}: {} cases, {} mismatches, {:.1} s{}",
        check.cases,
        check.mismatches,
        check.seconds,
        check.first.as_ref().or(check.stopped.as_ref()).map(|text| format!(": {text}")).unwrap_or_default(),
    );
    write_json(plan.out, checks)?;
    ended
}

/// Generates the inputs of a case.
fn read<O: Op, E: Number>(case: &Case) -> Vec<Vec<E>> {
    let mut rng = SmallRng::seed_from_u64(case.seed);
    let of = |extent: &Extent| match extent {
        Extent::Whole => numbers::rows(&mut rng, case.shape),
        Extent::Queries => numbers::mostly_plain(&mut rng, Shape { rows: QUERIES, ..case.shape }),
        Extent::Cache => numbers::mostly_plain(&mut rng, case.shape),
        Extent::Rows | Extent::Columns => numbers::weights(&mut rng, extent.len(case.shape)),
    };
    O::READ.iter().map(of).collect()
}

fn compare_case<O: Op, E: Number>(
    check: &mut Check,
    stream: Option<&Stream>,
    digest: &mut Digest,
    case: &Case,
) -> Result<()> {
    let read = read::<O, E>(case);
    let expected = O::on_cpu::<E>(case.shape, case.way, &read);
    add(digest, &expected);
    check.cases += 1;
    check.elements += case.shape.elements();
    let mut record = |found: String| {
        check.mismatches += 1;
        let Case { shape, shift, way, .. } = case;
        let describe = || format!("{shape}, {}, {shift} elements past the alignment: {found}", O::WAYS[*way]);
        check.first.get_or_insert_with(describe);
    };
    // The comparison accepts equal errors. If both the CPU and the device refused the arguments, it would pass without
    // comparing any result.
    if let Some(error) = expected.as_ref().err().filter(|error| !error.is_of_values()) {
        record(format!("the CPU refused the call: {error}"));
        return Ok(());
    }
    let Some(stream) = stream else { return Ok(()) };
    let got = on_device::<O, E>(stream, case, &read);
    if let Err(found) = compare(&expected, &got) {
        record(found);
    }
    match got {
        Err(error) if error.is_of_device() => Err(error),
        _ => Ok(()),
    }
}

fn on_device<O: Op, E: Number>(stream: &Stream, case: &Case, read: &[Vec<E>]) -> Result<Results<E>> {
    let placed = |values: &Vec<E>| Placed::of(stream, values, case.shift);
    let given = read;
    let read = given.iter().map(placed).collect::<Result<Vec<_>>>()?;
    let unwritten = |extent: &Extent| Placed::unwritten(stream, extent.len(case.shape), case.shift);
    let mut written = O::WRITTEN.iter().map(unwritten).collect::<Result<Vec<_>>>()?;
    let mut ready = O::on_device::<E>(stream, case.shape, case.way)?;
    ready.fill(&read, &mut written)?;
    ready.launch(&read, &mut written)?;
    stream.synchronize()?;
    let values = |placed: &Placed<E>| placed.values(stream);
    let results = Results { written: written.iter().map(values).collect::<Result<_>>()?, words: ready.words()? };
    for (operand, (given, read)) in given.iter().zip(&read).enumerate() {
        same(&format!("operand {operand}"), given, &values(read)?).map_err(Error::ChangedOperand)?;
    }
    if is_emulated(stream)? {
        ready.fill(&read, &mut written)?;
        let before = stream.context().mem_get_info()?.0;
        ready.launch(&read, &mut written)?;
        let taken = before - stream.context().mem_get_info()?.0;
        if taken > 0 {
            return Err(Error::Allocates(taken));
        }
    }
    Ok(results)
}

/// Returns whether the driver is the emulated one. The emulated driver reports less free memory after every allocation.
fn is_emulated(stream: &Stream) -> Result<bool> {
    Ok(stream.context().name()? == "Emulated")
}

fn add<E: Number>(digest: &mut Digest, results: &Result<Results<E>>) {
    match results {
        Ok(results) => {
            let bits = results.written.iter().flatten().map(|value| value.bits());
            bits.chain(results.words.iter().copied()).for_each(|word| digest.add(word));
        }
        Err(error) => digest.add(Digest::of_text(&error.to_string())),
    }
}

/// Compares two results, and returns a text about the first difference.
fn compare<E: Number>(expected: &Result<Results<E>>, got: &Result<Results<E>>) -> std::result::Result<(), String> {
    let (expected, got) = match (expected, got) {
        (Ok(expected), Ok(got)) => (expected, got),
        (Err(expected), Err(got)) if expected.to_string() == got.to_string() => return Ok(()),
        (_, Err(got)) => return Err(format!("the GPU returned the error: {got}")),
        (Err(expected), Ok(_)) => {
            return Err(format!("the GPU returned a result, but the CPU returned the error: {expected}"));
        }
    };
    for (which, (expected, got)) in expected.written.iter().zip(&got.written).enumerate() {
        if expected.is_empty() && Placed::is_unwritten(got) {
            continue;
        }
        same(&format!("result {which}"), expected, got)?;
    }
    if expected.words.len() != got.words.len() {
        return Err(format!("expected {} result words, got {}", expected.words.len(), got.words.len()));
    }
    match (0..expected.words.len()).find(|&i| got.words[i] != expected.words[i]) {
        Some(i) => Err(format!("row {i} has the bits {:x} instead of {:x}", got.words[i], expected.words[i])),
        None => Ok(()),
    }
}

fn same<E: Number>(what: &str, expected: &[E], got: &[E]) -> std::result::Result<(), String> {
    if expected.len() != got.len() {
        return Err(format!("{what} has {} elements instead of {}", got.len(), expected.len()));
    }
    let differs = |i: &usize| expected[*i].bits() != got[*i].bits();
    let Some(i) = (0..got.len()).find(differs) else { return Ok(()) };
    let count = (i..got.len()).filter(differs).count();
    let show = evenkeel::testing::show::<E>;
    Err(format!(
        "{what}, element {i} is {} instead of {}; {count} of {} elements differ",
        show(got[i]),
        show(expected[i]),
        got.len()
    ))
}

/// Block of rows that is repeated until there are more elements than 32 bits can count.
const BLOCK: Shape = Shape { rows: 256, cols: 4096 };

/// Runs an op on repetitions of a block of rows ([`BLOCK`]). Compares the results of the first, the middle and the last
/// block with the CPU's.
fn beyond<O: Op>(plan: &Plan, check: &mut Check, stream: Option<&Stream>) -> Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let whole = Shape { rows: plan.blocks * BLOCK.rows, ..BLOCK };
    let case = Case { shape: BLOCK, shift: 0, way: 0, seed: 5 };
    let read = read::<O, bf16>(&case);
    let expected = O::on_cpu::<bf16>(BLOCK, 0, &read)?;
    let repeated = |(values, extent): (&Vec<bf16>, &Extent)| Placed::repeated(stream, values, extent.len(whole));
    let read = read.iter().zip(O::READ).map(repeated).collect::<Result<Vec<_>>>()?;
    let unwritten = |extent: &Extent| Placed::repeated(stream, &[bf16::NAN; 4096], extent.len(whole));
    let mut written = O::WRITTEN.iter().map(unwritten).collect::<Result<Vec<_>>>()?;
    O::on_device::<bf16>(stream, whole, 0)?.launch(&read, &mut written)?;
    stream.synchronize()?;
    for block in [0, plan.blocks / 2, plan.blocks - 1] {
        check.cases += 1;
        for (which, extent) in O::WRITTEN.iter().enumerate().filter(|(_, extent)| **extent != Extent::Columns) {
            let len = extent.len(BLOCK);
            let got = written[which].part(stream, block * len..(block + 1) * len)?;
            if let Err(found) = same(&format!("block {block}, result {which}"), &expected.written[which], &got) {
                check.mismatches += 1;
                check.first.get_or_insert(found);
            }
        }
    }
    check.elements = whole.elements();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::ops;

    fn plan<'a>(ops: &'a [&'a str], out: &'a Path) -> Plan<'a> {
        Plan { stream: None, ops, blocks: 0, out }
    }

    /// Runs the checks twice without a device. The CPU must accept the arguments of every op, and both runs must give
    /// the same digests.
    #[test]
    fn the_cpu_takes_every_case_and_gives_the_same_digests_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("cpu.json");
        let mut checks = Checks { seed: 1, part: 9, elements: 20_000, ..Checks::default() };
        run(&plan(&ops::names(), &out), &mut checks).unwrap();
        assert_eq!(checks.checks.len(), 3 * ops::names().len());
        assert!(checks.checks.iter().all(|check| check.stopped.is_none() && check.mismatches == 0), "{checks:?}");
        let all = checks.checks.iter().map(|check| check.cases).max().unwrap();
        assert!(all >= 9, "{checks:?}");
        macro_rules! takes_its_share {
            ($op:ty) => {
                for check in checks.checks.iter().filter(|check| check.op == <$op>::NAME) {
                    assert_eq!(check.cases, all.div_ceil(<$op>::SMALL_CASE_STEP.div_ceil(9)), "{check:?}");
                }
            };
        }
        each_op!(takes_its_share);
        let mut again = Checks { checks: Vec::new(), ..checks.clone() };
        run(&plan(&ops::names(), &out), &mut again).unwrap();
        let digests = |checks: &Checks| checks.checks.iter().map(|check| check.digest.clone()).collect::<Vec<_>>();
        assert_eq!(digests(&checks), digests(&again));
        let written: Checks = crate::record::read_json(&out).unwrap().unwrap();
        assert_eq!(digests(&written), digests(&again));
    }

    #[test]
    fn what_was_begun_and_not_ended_is_not_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("check.json");
        let begun = Check { op: "exp".into(), dtype: "F32".into(), stopped: Some(BEGUN.into()), ..Check::default() };
        let mut checks = Checks { part: 9, elements: 2000, checks: vec![begun.clone()], ..Checks::default() };
        run(&plan(&["exp"], &out), &mut checks).unwrap();
        assert_eq!((checks.checks.len(), &checks.checks[0]), (3, &begun));
    }

    fn results(written: &[f32], words: &[u64]) -> Result<Results<f32>> {
        Ok(Results { written: vec![written.to_vec()], words: words.to_vec() })
    }

    #[test]
    fn planted_differences_are_found() {
        let expected = results(&[1.0, 0.0, f32::NAN], &[7, 8]);
        assert_eq!(compare(&expected, &results(&[1.0, 0.0, f32::NAN], &[7, 8])), Ok(()));
        let found = |got| compare(&expected, &got).unwrap_err();
        let sign = found(results(&[1.0, -0.0, f32::NAN], &[7, 8]));
        assert!(
            sign.starts_with("result 0, element 1 is -0e0 (0x80000000) instead of 0e0 (0x0); 1 of 3 elements differ"),
            "{sign}"
        );
        let payload = found(results(&[1.0, 0.0, -f32::NAN], &[7, 8]));
        assert!(payload.starts_with("result 0, element 2 is NaN"), "{payload}");
        assert_eq!(found(results(&[1.0], &[7, 8])), "result 0 has 1 elements instead of 3");
        assert_eq!(found(results(&[1.0, 0.0, f32::NAN], &[7, 9])), "row 1 has the bits 9 instead of 8");
        assert_eq!(found(results(&[1.0, 0.0, f32::NAN], &[7])), "expected 2 result words, got 1");
        assert_eq!(found(Err(Error::WroteBeside(3))), format!("the GPU returned the error: {}", Error::WroteBeside(3)));
        let refused = || Err(Error::Evenkeel(evenkeel::Error::fully_masked("softmax", 1)));
        assert_eq!(compare::<f32>(&refused(), &refused()), Ok(()));
        assert!(
            compare(&refused(), &expected)
                .unwrap_err()
                .starts_with("the GPU returned a result, but the CPU returned the error: softmax")
        );
    }

    #[test]
    fn what_is_not_written_is_to_stay_as_it_was() {
        let nothing = || Ok(Results::<f32> { written: vec![Vec::new()], words: Vec::new() });
        assert_eq!(compare(&nothing(), &results(&[-7.0, -7.0], &[])), Ok(()));
        assert!(compare(&nothing(), &results(&[-7.0, 1.0], &[])).is_err());
    }
}
