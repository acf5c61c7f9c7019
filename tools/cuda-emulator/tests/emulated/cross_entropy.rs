//! Checks that the kernels of the cross-entropy and its gradient give the same bits as the CPU.

use crate::support::cross_entropy::{Call, case, sums};
use crate::support::norm::{Operand, operand};
use crate::support::{COLS, How, KINDS, Shapes, peaked_row, row};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::cross_entropy::{Memory, launches};
use evenkeel::{CrossEntropy, DType, Element, Reduction};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Returns random options. Label smoothing, z_loss and the ignored index have their default values in about half of all
/// cases.
pub fn options(rng: &mut StdRng, softcap: bool) -> CrossEntropy<'static> {
    let mut options = CrossEntropy::default();
    options.label_smoothing = [0.0, 0.0, 0.1, 1.0][rng.random_range(0..4)];
    options.z_loss = [0.0, 0.0, 1e-4, 1e300][rng.random_range(0..4)];
    options.ignore_index = [-100, -100, 0, 3][rng.random_range(0..4)];
    options.reduction = [Reduction::Mean, Reduction::Sum, Reduction::None][rng.random_range(0..3)];
    options.softcap = softcap.then(|| [30.0, 50.0, 1e-3, 3.7][rng.random_range(0..4)]);
    options
}

/// Returns random targets for these rows: any class, the class with the largest logit, the ignored index, and sometimes
/// an invalid class.
pub fn targets<E: Element>(rng: &mut StdRng, logits: &[E], cols: usize, options: &CrossEntropy) -> Vec<i64> {
    let target = |row: &[E]| match rng.random_range(0..12) {
        0 | 1 => options.ignore_index,
        2..6 => (0..cols).max_by(|&a, &b| row[a].widen().total_cmp(&row[b].widen())).unwrap_or(0) as i64,
        6 if rng.random_bool(0.3) => [cols as i64, -1, i64::MIN, i64::MAX][rng.random_range(0..4)],
        _ => rng.random_range(0..cols as i64),
    };
    logits.chunks(cols).map(target).collect()
}

/// Returns random gradients of the loss; most are 1.
pub fn dloss(rng: &mut StdRng, rows: usize, options: &CrossEntropy) -> Vec<f64> {
    let count = if options.reduction == Reduction::None { rows } else { 1 };
    let others = [0.0, -1.0, 65536.0, 1e-36, 1e30, 1e305, f64::MAX, f64::INFINITY, f64::NAN, 1e-320];
    (0..count).map(|_| if rng.random_bool(0.6) { 1.0 } else { others[rng.random_range(0..others.len())] }).collect()
}

/// Tests rows of many shapes. Each type runs with all lengths up to 2100 and one third of the longer ones. With a
/// softcap, each type runs with all lengths up to 300, and one third of the lengths from 300 to 4200.
fn rows_of_every_shape<E: DeviceElement>(third: usize) {
    let seed = 31;
    let (mut rng, emulator) = (StdRng::seed_from_u64(seed), Emulator::linked());
    let mut shapes = Shapes::default();
    for (i, &cols) in COLS.iter().enumerate().filter(|(i, cols)| **cols <= 2100 || i % 3 == third) {
        for k in (0..6).filter(|k| if cols > 1100 { i % 6 == *k } else { (i + k) % 3 == 0 }) {
            let rows = if cols > 1100 { 2 } else { 1 + (i + k) % 4 };
            let logits = (0..rows).flat_map(|_| match KINDS.get(k) {
                Some(&kind) => row(&mut rng, kind, cols),
                None => {
                    let gap = [12.0, 25.0, 60.0][i % 3];
                    peaked_row(&mut rng, gap, cols)
                }
            });
            let logits: Vec<E> = logits.collect();
            for (shift, softcap) in [(0, false), (1 + (i + k) % 7, false), (0, true)] {
                if softcap && (cols > 4200 || cols > 300 && i % 3 != third) || shift > 0 && cols > 9000 {
                    continue;
                }
                let options = options(&mut rng, softcap);
                let weight = operand(&mut rng, E::DTYPE, cols);
                let targets = targets(&mut rng, &logits, cols, &options);
                let dloss = dloss(&mut rng, rows, &options);
                let call =
                    Call { logits: &logits, targets: &targets, weight: weight.as_ref(), dloss: &dloss, cols, options };
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                case(&emulator, &call, how).unwrap_or_else(|found| panic!("{found}"));
                shapes.add(&[rows, cols]);
            }
        }
    }
    for (i, rows) in (5..9).cycle().take(120).enumerate() {
        let cols = 1 + i / 4;
        let logits: Vec<E> = (0..rows).flat_map(|_| row(&mut rng, KINDS[i % 5], cols)).collect();
        let options = options(&mut rng, i % 3 == 0);
        let weight = operand(&mut rng, E::DTYPE, cols);
        let targets = targets(&mut rng, &logits, cols, &options);
        let dloss = dloss(&mut rng, rows, &options);
        let call = Call { logits: &logits, targets: &targets, weight: weight.as_ref(), dloss: &dloss, cols, options };
        let how = How { shift: i % 9, one_block: i % 2 == 0, order: Order::ALL[i % 3] };
        case(&emulator, &call, how).unwrap_or_else(|found| panic!("{found}"));
        shapes.add(&[rows, cols]);
    }
    shapes.are_enough(format!("seed {seed}, {} of the loss, the gradient, and that in place", E::DTYPE));
}

#[test]
fn f32s() {
    rows_of_every_shape::<f32>(0);
}

#[test]
fn f16s() {
    rows_of_every_shape::<f16>(1);
}

#[test]
fn bf16s() {
    rows_of_every_shape::<bf16>(2);
}

/// Compares a row of more than 2^18 logits, which is so long that the fixed-point sum of its exponentials is in units of
/// 2^-48.
pub fn longest_row(emulator: &Emulator) -> Result<(), String> {
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    long_row::<bf16>(emulator, (1 << 18) + 8, CrossEntropy::default(), how)
}

fn long_row<E: DeviceElement>(
    emulator: &Emulator,
    cols: usize,
    options: CrossEntropy<'static>,
    how: How,
) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(32);
    let logits: Vec<E> = row(&mut rng, KINDS[0], cols);
    let weight = operand(&mut rng, E::DTYPE, cols);
    case(
        emulator,
        &Call { logits: &logits, targets: &[77], weight: weight.as_ref(), dloss: &[1.0], cols, options },
        how,
    )
}

/// Tests rows that need shared memory, with as much as the kernel requests and with less.
fn long_rows<E: DeviceElement>() {
    let plain = CrossEntropy::default();
    for (i, (cols, options)) in [
        (20_001, plain),
        (40_003, plain.z_loss(1e-4)),
        (70_000, plain.reduction(Reduction::Sum)),
        (100_001, plain),
        (150_008, plain.label_smoothing(0.1)),
        (160_000, plain.reduction(Reduction::None)),
    ]
    .into_iter()
    .enumerate()
    {
        let how = How { shift: [0, 2, 3][i % 3], one_block: i % 2 == 0, order: Order::ALL[i % 3] };
        long_row::<E>(&Emulator::linked(), cols, options, how).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn long_rows_of_every_type() {
    long_rows::<f32>();
    long_rows::<f16>();
    long_rows::<bf16>();
    longest_row(&Emulator::linked()).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn sums_of_many_rows() {
    let mut rng = StdRng::seed_from_u64(33);
    for rows in [0, 1, 63, 255, 256, 257, 8191, 8192, 8193, 20_001] {
        let targets: Vec<i64> = (0..rows).map(|_| [rng.random_range(0..9000), -100][rng.random_range(0..2)]).collect();
        let parts: Vec<f64> = row(&mut rng, KINDS[0], 2 * rows);
        let weights: Vec<f32> = row(&mut rng, KINDS[0], 9000);
        sums(&Emulator::linked(), &targets, &parts, &weights).unwrap_or_else(|found| panic!("{found}"));
    }
}

/// Two rows of two logits, with their targets, class weights, the gradient of the loss, and options.
pub type Extreme = ([f32; 4], [i64; 2], Option<[f32; 2]>, f64, CrossEntropy<'static>);

/// Returns edge cases of two rows each.
pub fn at_the_ends() -> Vec<Extreme> {
    let (inf, max) = (f32::INFINITY, f32::MAX);
    let plain = CrossEntropy::default();
    let capped = plain.softcap(1e-3).reduction(Reduction::Sum);
    vec![
        // A row is fully masked and its target has weight 0, with and without smoothing.
        ([-inf, -inf, 1.0, 2.0], [0, 1], Some([0.0, 1.0]), 1.0, plain),
        ([-inf, -inf, 1.0, 2.0], [0, 1], Some([0.0, 1.0]), 1.0, plain.label_smoothing(0.5).z_loss(1.0)),
        // The target of the first row is masked.
        ([-inf, 0.0, 1.0, 2.0], [0, 1], Some([1.0, 2.0]), 1.0, plain),
        ([-inf, 0.0, 1.0, 2.0], [0, 1], Some([0.0, 2.0]), 1.0, plain.label_smoothing(0.1)),
        // The weights of the targets sum to 0.
        ([1.0, 0.0, 1.0, 2.0], [0, 1], Some([-1.0, 1.0]), 1.0, plain.z_loss(0.5)),
        ([1.0, 0.0, 1.0, 2.0], [0, 0], Some([0.0, 1.0]), 1.0, plain),
        // The weights of the targets sum to 0, and the first row is NaN, so the mean is NaN.
        ([f32::NAN, 0.0, 1.0, 2.0], [0, 1], Some([-1.0, 1.0]), 1.0, plain),
        // All targets are ignored.
        ([f32::NAN; 4], [-100, -100], None, 1.0, plain.z_loss(0.5)),
        // `dloss` divided by the sum of the weights exceeds f64's range.
        ([1.0, 0.0, 1.0, 2.0], [0, 1], Some([0.01, 0.02]), f64::MAX, plain),
        ([1.0, 0.0, -inf, 2.0], [0, 1], Some([0.01, 0.02]), f64::MAX, plain.label_smoothing(0.9)),
        // Differences of logits exceed f32's range. In the second case, the z-loss also exceeds f64's range.
        ([max, -max, 1e30, -1e30], [1, 0], None, 1.0, plain.label_smoothing(0.3).z_loss(1.0)),
        ([max, -max, 1e30, -1e30], [1, 0], None, 1.0, plain.softcap(1e30).z_loss(1e308)),
        // Twice the factor of the z-loss exceeds f64's range, and is multiplied by 0.
        ([1.0, 0.0, 1.0, 2.0], [0, 1], None, 0.0, plain.z_loss(f64::MAX)),
        // A term of the gradient exceeds f64's range, and is multiplied by a softcap's derivative of 0.
        ([1.0, 0.0, 1.0, 2.0], [0, 1], Some([8.0, 8.0]), f64::MAX, capped.label_smoothing(1.0)),
        // Derivatives of the softcap are so small that they affect results only if `dloss` is large.
        ([18.0, 17.9, -18.0, 3.0], [0, 1], None, 1e305, plain.softcap(0.05)),
        ([18.0, 18.3, -18.5, 3.0], [1, 1], None, 1e305, plain.softcap(0.05).label_smoothing(0.2)),
        // There are two invalid targets. The first is reported.
        ([1.0, 2.0, 1.0, 2.0], [2, -1], None, 1.0, plain.reduction(Reduction::Sum)),
        // One target is invalid, and the other is ignored.
        ([1.0, 2.0, 1.0, 2.0], [5, -100], None, 1.0, plain),
        // The ignored index is a class.
        ([1.0, 2.0, 1.0, 2.0], [1, 0], None, 1.0, plain.ignore_index(1)),
    ]
}

#[test]
fn rows_at_the_ends() {
    for (logits, targets, weight, dloss, options) in at_the_ends() {
        for one_block in [false, true] {
            let weight = weight.map(|weight| Operand::F32(weight.to_vec()));
            let (weight, dloss) = (weight.as_ref(), &[dloss]);
            let call = Call { logits: &logits, targets: &targets, weight, dloss, cols: 2, options };
            let how = How { shift: 0, one_block, order: Order::Backward };
            case(&Emulator::linked(), &call, how).unwrap_or_else(|found| panic!("{found}"));
        }
    }
}

#[test]
fn no_rows_and_no_classes() {
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    let options = CrossEntropy::default();
    for (targets, cols) in [(vec![], 5), (vec![-100, -100], 0), (vec![0, -100], 0)] {
        let call = Call::<f32> { logits: &[], targets: &targets, weight: None, dloss: &[1.0], cols, options };
        case(&Emulator::linked(), &call, how).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn what_there_is_not() {
    let describe = |dtype, cols, options: &CrossEntropy| {
        launches(dtype, &Memory::default(), None, (1, cols), options).unwrap_err().to_string()
    };
    let options = CrossEntropy::default();
    assert_eq!(describe(DType::F64, 3, &options), "cross_entropy: F64 is not supported on cuda");
    assert!(describe(DType::F32, 1 << 22, &options).contains("columns is 4194304; it must be at most 2097152"));
    assert!(describe(DType::F32, 1, &options.weight(&[1.0f32])).contains("weight is in the host's memory"));
    assert!(describe(DType::F32, 1, &options.label_smoothing(2.0)).contains("label_smoothing is 2"));
}
