//! Softmax's kernels give the CPU's bits, whatever the shape, the alignment, the numbers and the order of the threads.

use evenkeel::cuda::{DeviceElement, softmax};
use evenkeel::{Element, FullyMasked, Rows, Softmax};
use evenkeel_emulated::{Order, run};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Mutex;

/// The emulator runs one kernel at a time.
static TURN: Mutex<()> = Mutex::new(());

const COLS: &[usize] = &[
    1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 72, 96, 100, 127, 128, 129, 136, 160,
    192, 200, 255, 256, 257, 264, 320, 384, 400, 500, 504, 511, 512, 513, 520, 600, 640, 768, 1000, 1016, 1023, 1024,
    1025, 1032, 1280, 1536, 2000, 2040, 2047, 2048, 2049, 2056, 3000, 3072, 4088, 4095, 4096, 4097, 4104, 5000, 6144,
    8184, 8191, 8192, 8193, 8200, 10_000, 16_384, 16_392, 32_768, 32_776, 33_000,
];
const GUARD: usize = 16;

/// What the numbers of a row look like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Normal,
    /// Some are far below the largest: the exponential's long form.
    Wide,
    /// Beyond 256, where the largest is taken off first.
    Far,
    /// Some, or all, are -inf.
    Masked,
    /// Whatever bits there are.
    Any,
}

const KINDS: [Kind; 5] = [Kind::Normal, Kind::Wide, Kind::Far, Kind::Masked, Kind::Any];

fn row<E: Element>(rng: &mut StdRng, kind: Kind, cols: usize) -> Vec<E> {
    let all_masked = rng.random_bool(0.3);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let numbers: Vec<f64> = (0..cols).map(|_| normal()).collect();
    let mut draw = |share: f64| rng.random_bool(share);
    let numbers = numbers.into_iter().map(|z| match kind {
        Kind::Normal => z * 3.0,
        Kind::Wide => z * 60.0,
        Kind::Far => z * 2.0 + 3000.0,
        Kind::Masked if all_masked || draw(0.3) => f64::NEG_INFINITY,
        Kind::Masked => z,
        Kind::Any if draw(0.002) => [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN][(z.abs() * 3.0) as usize % 4],
        Kind::Any => z * 10f64.powf(z * 3.0),
    });
    numbers.map(E::from_wide).collect()
}

fn bits<E: Element>(values: &[E]) -> Vec<u64> {
    values.iter().map(|v| v.bits()).collect()
}

/// One case: rows that begin so many elements behind sixteen bytes' alignment.
fn case<E: DeviceElement>(x: &[E], (rows, cols): (usize, usize), shift: usize, options: &Softmax, order: Order) {
    let what = format!("{} {rows}x{cols}, shifted by {shift}, {order:?}", E::DTYPE);
    let poison = E::from_wide(-7.0);
    // Sixteen bytes are eight elements at most.
    let buffer = |from: &[E]| {
        let mut all = vec![poison; from.len() + 2 * GUARD + 8];
        let start = all.as_ptr().align_offset(16) + GUARD + shift;
        all[start..][..from.len()].copy_from_slice(from);
        (all, start)
    };
    let (from, at) = buffer(x);
    let (mut to, out) = buffer(&vec![poison; x.len()]);
    let mut met = [0u64, 0, 0, u64::MAX];
    let addresses = [from[at..].as_ptr() as u64, to[out..].as_mut_ptr() as u64, met.as_mut_ptr() as u64];
    let planned = softmax::launch(E::DTYPE, addresses, (rows, cols), options).unwrap();
    let (launch, arguments) = planned.expect("there are elements");
    // SAFETY: the addresses are of slices with as many elements, which live until the kernel has run.
    unsafe { run(&launch, &arguments, order) }.unwrap_or_else(|error| panic!("{what}: {error}"));
    let (expected, report) =
        evenkeel::report::scope(|| evenkeel::softmax(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    let got = &to[out..][..x.len()];
    if bits(got) != bits(&expected) {
        let i = (0..x.len()).find(|&i| got[i].bits() != expected[i].bits()).expect("they differ");
        panic!("{what}, {}: element {i} is {:?} instead of {:?}, of {:?}", launch.kernel, got[i], expected[i], x[i]);
    }
    assert!(to[..out].iter().chain(&to[out + x.len()..]).all(|v| v.bits() == poison.bits()), "{what}: written outside");
    let counts = report.op("softmax");
    assert_eq!(met[..3], [counts.nan, counts.infinite, counts.wholly_masked], "{what}: rows met");
    let first = x.chunks(cols).position(|row| row.iter().all(|z| z.widen() == f64::NEG_INFINITY));
    assert_eq!(met[3], first.map_or(u64::MAX, |row| row as u64), "{what}: the first masked row");
}

fn rows_of_every_shape<E: DeviceElement>() {
    let _turn = TURN.lock().unwrap();
    let seed = 1;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for (i, &cols) in COLS.iter().enumerate() {
        let kinds = if cols > 4096 { &KINDS[i % 5..][..1] } else { &KINDS[..] };
        for (k, &kind) in kinds.iter().enumerate() {
            let rows = if cols > 4096 { 2 } else { 1 + (i + k) % 4 };
            let x: Vec<E> = (0..rows).flat_map(|_| row(&mut rng, kind, cols)).collect();
            let policy = [FullyMasked::Zeros, FullyMasked::Uniform][(i + k) % 2];
            let options = Softmax::default().fully_masked(policy);
            for shift in [0, 1 + (i + k) % 7] {
                case(&x, (rows, cols), shift, &options, Order::ALL[(i + k) % 3]);
            }
        }
    }
}

#[test]
fn f32s() {
    rows_of_every_shape::<f32>();
}

#[test]
fn f16s() {
    rows_of_every_shape::<f16>();
}

#[test]
fn bf16s() {
    rows_of_every_shape::<bf16>();
}

/// The integers of rule Q are sums of many terms in each thread.
#[test]
fn rows_of_a_model() {
    let _turn = TURN.lock().unwrap();
    let mut rng = StdRng::seed_from_u64(2);
    for cols in [128_256, 300_000] {
        let x: Vec<f32> = row(&mut rng, Kind::Normal, cols);
        case(&x, (1, cols), 0, &Softmax::default(), Order::Forward);
    }
}
