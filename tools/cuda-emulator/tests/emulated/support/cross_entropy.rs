//! Cases for the cross-entropy and its gradient.

use super::norm::Operand;
use super::{Guarded, How, same_guards};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::cross_entropy::{Arguments, FIRST_REFUSED, Memory, SETTLED, launches};
use evenkeel::math::sum::tiled_sum;
use evenkeel::{CrossEntropy, Element, Loss, Reduction, Rows, report};
use evenkeel_cuda_emulator::Emulator;

/// Operands and options of a call.
pub struct Call<'a, E> {
    pub logits: &'a [E],
    pub targets: &'a [i64],
    pub weight: Option<&'a Operand>,
    /// One gradient per loss.
    pub dloss: &'a [f64],
    pub cols: usize,
    pub options: CrossEntropy<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Loss,
    Gradient,
    InPlace,
}

/// Runs one case three times: for the loss, for the loss and the gradient, and for the loss and a gradient that
/// overwrites the logits. Fails if the results differ from the CPU's.
pub fn case<E: DeviceElement>(emulator: &Emulator, call: &Call<E>, how: How) -> Result<(), String> {
    let Call { logits, targets, weight, dloss, cols, options } = *call;
    let rows = targets.len();
    // The CPU returns an error for an invalid target, so the expected results are computed with that target ignored.
    // The kernels give NaN for an invalid target.
    let is_refused =
        |target: &i64| *target != options.ignore_index && !usize::try_from(*target).is_ok_and(|class| class < cols);
    let allowed: Vec<i64> = targets.iter().map(|t| if is_refused(t) { options.ignore_index } else { *t }).collect();
    let on_cpu = match weight {
        Some(weight) => options.weight(weight.floats()),
        None => options,
    };
    let is_masked = |row: &usize| {
        let logits = &logits[row * cols..][..cols];
        allowed[*row] != options.ignore_index && logits.iter().all(|z| z.widen() == f64::NEG_INFINITY)
    };
    let first_masked = (0..rows).find(is_masked).map_or(u64::MAX, |row| row as u64);
    let first_refused = targets.iter().position(is_refused).map_or(u64::MAX, |row| row as u64);
    let linked = Emulator::linked();
    for form in [Form::Loss, Form::Gradient, Form::InPlace] {
        let describe = |found: String| {
            let weight = weight.map(|weight| weight.floats().dtype());
            format!(
                "{form:?} {} {rows}x{cols}, weight {weight:?}, {options:?}, dloss {:?}, {how:?}: {found}",
                E::DTYPE,
                dloss[0]
            )
        };
        let view = || Rows::new(logits, rows, cols).unwrap();
        let ((loss, expected), report) = report::scope(|| match form {
            Form::Loss => (evenkeel::cross_entropy(view(), &allowed, &on_cpu).unwrap(), Vec::new()),
            _ => evenkeel::cross_entropy_backward(view(), &allowed, dloss, &on_cpu).unwrap(),
        });
        let counts = report.op(if form == Form::Loss { "cross_entropy" } else { "cross_entropy_backward" });

        // For odd shifts, the gradient and the logits differ in alignment.
        let mut to = Guarded::<E>::unwritten(logits.len(), how.shift * 3 % 8);
        let mut from = Guarded::of(logits, how.shift);
        let mut losses = Guarded::<f64>::unwritten(loss.as_slice().len(), 0);
        let (mut parts, mut settled) = (vec![f64::NAN; 2 * rows], [7u64; SETTLED]);
        let mut guards = [0u64, 0, 0, u64::MAX];
        let mut placed = weight.map(|weight| weight.placed(how.shift));
        let memory = Memory {
            logits: from.address(),
            dlogits: match form {
                Form::Loss => 0,
                Form::Gradient => to.address(),
                Form::InPlace => from.address(),
            },
            targets: targets.as_ptr() as u64,
            dloss: dloss.as_ptr() as u64,
            losses: losses.address(),
            parts: parts.as_mut_ptr() as u64,
            settled: settled.as_mut_ptr() as u64,
            guards: guards.as_mut_ptr() as u64,
        };
        let at = placed.as_mut().map(|placed| placed.at());
        let (launches, arguments) = launches(E::DTYPE, &memory, at, (rows, cols), &options).unwrap();
        for launch in launches {
            // With a softcap, the call also needs kernels of `cross_entropy`. A module with planted faults may lack
            // these kernels, so they come from this program.
            let is_beside = options.softcap.is_some() && launch.source == "cross_entropy";
            let emulator = if is_beside { &linked } else { emulator };
            // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel runs.
            unsafe { how.run(emulator, (launch, arguments)) }.map_err(describe)?;
        }

        let canonical = |loss: f64| if loss.is_nan() { f64::NAN } else { loss };
        let mut wanted_losses: Vec<f64> = loss.as_slice().iter().copied().map(canonical).collect();
        let mut wanted_gradient = expected;
        for row in (0..rows).filter(|row| is_refused(&targets[*row])) {
            wanted_losses[if let Loss::Rows(_) = loss { row } else { 0 }] = f64::NAN;
            if form != Form::Loss {
                wanted_gradient[row * cols..][..cols].fill(E::from_wide(f64::NAN));
            }
        }
        losses
            .compare(&wanted_losses)
            .map_err(|found| describe(format!("the loss differs from the loss on the CPU: {found}")))?;
        match form {
            Form::Loss => from.compare(logits),
            Form::Gradient => from.compare(logits).and(to.compare(&wanted_gradient)),
            Form::InPlace => from.compare(&wanted_gradient),
        }
        .map_err(describe)?;
        same_guards(guards, counts, first_masked).map_err(describe)?;
        if settled[FIRST_REFUSED] != first_refused {
            return Err(describe(format!(
                "expected the first invalid target in row {first_refused}, got row {}",
                settled[FIRST_REFUSED]
            )));
        }
    }
    Ok(())
}

fn run(
    emulator: &Emulator,
    kernel: &str,
    memory: &Memory,
    call: &Call<f32>,
    weight: Option<&Operand>,
) -> Result<(), String> {
    let mut placed = weight.map(|weight| weight.placed(1));
    let at = placed.as_mut().map(|placed| placed.at());
    let shape = (call.targets.len(), call.cols);
    let (launches, arguments): (_, Arguments) = launches(f32::DTYPE, memory, at, shape, &call.options).unwrap();
    let how = How { shift: 0, one_block: true, order: evenkeel_cuda_emulator::Order::Random(3) };
    let launch = launches
        .into_iter()
        .find(|launch| launch.kernel == kernel)
        .expect("cross_entropy must launch the kernel that this test runs");
    // SAFETY: the memory is as in `case`; this kernel accesses no other memory.
    unsafe { how.run(emulator, (launch, arguments)) }
}

/// Compares the kernels' sums over many rows with tiled sums. The summed terms are the targets' weights, the class
/// weights and the losses.
pub fn sums(emulator: &Emulator, targets: &[i64], parts: &[f64], weights: &[f32]) -> Result<(), String> {
    let options = CrossEntropy::default().reduction(Reduction::Sum);
    let call = Call { logits: &[], targets, weight: None, dloss: &[], cols: weights.len(), options };
    let (mut settled, mut loss) = ([0u64; SETTLED], [0f64]);
    let memory = Memory {
        targets: targets.as_ptr() as u64,
        parts: parts.as_ptr() as u64,
        losses: loss.as_mut_ptr() as u64,
        settled: settled.as_mut_ptr() as u64,
        ..Memory::default()
    };
    run(emulator, "cross_entropy_settle", &memory, &call, Some(&Operand::F32(weights.to_vec())))?;
    run(emulator, "cross_entropy_reduce", &memory, &call, None)?;
    let weight = |target: &i64| weights.get(*target as usize).map_or(0.0, |weight| f64::from(*weight));
    let counted = targets.iter().filter(|target| **target != -100).count() as f64;
    let of_classes: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
    let of_part = |part: usize| tiled_sum(&parts.iter().skip(part).step_by(2).copied().collect::<Vec<_>>());
    let found = [settled[0], settled[1], settled[2], loss[0].to_bits()].map(f64::from_bits);
    let expected = [
        tiled_sum(&targets.iter().map(weight).collect::<Vec<_>>()),
        counted,
        tiled_sum(&of_classes),
        of_part(0) + of_part(1),
    ];
    if found.map(f64::to_bits) != expected.map(f64::to_bits) {
        return Err(format!("sums of cross_entropy over {} rows: expected {expected:?}, got {found:?}", targets.len()));
    }
    Ok(())
}

/// Checks that the first invalid target is reported. There are so many rows that a thread handles several.
pub fn first_refused(emulator: &Emulator, targets: &[i64]) -> Result<(), String> {
    let mut targets = targets.to_vec();
    let (first, cols) = (3, 100);
    for row in [first, first + 32, first + 10_000] {
        targets[row] = cols as i64;
    }
    let call =
        Call { logits: &[], targets: &targets, weight: None, dloss: &[], cols, options: CrossEntropy::default() };
    let mut settled = [0u64; SETTLED];
    let memory = Memory { targets: targets.as_ptr() as u64, settled: settled.as_mut_ptr() as u64, ..Memory::default() };
    run(emulator, "cross_entropy_settle", &memory, &call, None)?;
    match settled[FIRST_REFUSED] {
        row if row == first as u64 => Ok(()),
        row => Err(format!("expected the first invalid target in row {first}, got row {row}")),
    }
}
