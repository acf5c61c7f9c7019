//! Tests of stochastic rounding: each result is a neighbour of the number, the mean of many results is right, and every
//! run gives the same bits.

use evenkeel::train::init::Stream;
use evenkeel::train::{AdamW, Optimizer, Sgd, stochastic_round};
use evenkeel::{Element, FloatsMut};
use half::{bf16, f16};

/// Returns all finite values of a 16-bit type from 0 upwards, in increasing order, as f64.
fn values<E: Element>(from_bits: fn(u16) -> E) -> Vec<f64> {
    (0..0x8000).map(|bits| from_bits(bits).widen()).filter(|value| value.is_finite()).collect()
}

fn round<E: Element>(from: &[f32], step: u64) -> Vec<f64>
where
    for<'a> &'a mut [E]: Into<FloatsMut<'a>>,
{
    let mut to = vec![E::ZERO; from.len()];
    stochastic_round(from, &mut to[..], Stream::numbered(7, 3), step).unwrap();
    to.iter().map(|value| value.widen()).collect()
}

/// Checks that a number becomes one of its two neighbours, with the right probabilities. The number of results equal to
/// a neighbour has a binomial distribution. It may differ from its mean by 6 standard deviations.
fn neighbours<E: Element>(from_bits: fn(u16) -> E, numbers: &[f32])
where
    for<'a> &'a mut [E]: Into<FloatsMut<'a>>,
{
    const COUNT: usize = 20_000;
    let values = values(from_bits);
    for &number in numbers {
        for x in [number, -number] {
            let magnitude = f64::from(x.abs());
            let at = values.partition_point(|&value| value <= magnitude) - 1;
            let (below, above) = (values[at], values.get(at + 1).copied().unwrap_or(f64::INFINITY));
            let chance = if magnitude == below { 0.0 } else { (magnitude - below) / (above - below) };
            let results = round::<E>(&vec![x; COUNT], 0);
            let ups = results.iter().filter(|result| result.abs() == above).count();
            let downs = results.iter().filter(|result| result.abs() == below).count();
            assert!(
                ups + downs == COUNT && results.iter().all(|r| r.is_sign_positive() == x.is_sign_positive()),
                "stochastic_round of {x}: each result must have the input's sign and be one of the two nearest values"
            );
            let (expected, deviation) = (COUNT as f64 * chance, (COUNT as f64 * chance * (1.0 - chance)).sqrt());
            let off = (ups as f64 - expected).abs();
            assert!(
                off <= 6.0 * deviation,
                "{x} rounded to {}: about {expected} of {COUNT} results must be rounded away from 0, got {ups}",
                E::DTYPE
            );
        }
    }
}

#[test]
fn each_neighbour_has_its_probability() {
    let of_f16 = [
        0.0,
        1.0,
        1.0003,
        1.0009,
        1.9999,
        3.7,
        1e-3,
        65503.0,
        65504.0,
        6.1e-5,
        6.1035e-5,
        6.0e-8,
        5.9604645e-8,
        3e-8,
        1.5e-9,
        1e-12,
        1e-40,
    ];
    neighbours::<f16>(f16::from_bits, &of_f16);
    let of_bf16 = [
        0.0,
        1.0,
        1.003,
        1.9999,
        3.7,
        1e-3,
        3.38e38,
        1e30,
        1e-30,
        1.17e-38,
        1.1754944e-38,
        1e-39,
        1e-41,
        9.2e-41,
        1e-45,
    ];
    neighbours::<bf16>(bf16::from_bits, &of_bf16);
}

/// Checks that a value of the type is rounded to itself. Numbers beyond the largest value become that value or
/// infinity.
#[test]
fn representable_values_are_kept() {
    fn kept<E: Element>(from_bits: fn(u16) -> E)
    where
        for<'a> &'a mut [E]: Into<FloatsMut<'a>>,
    {
        let all: Vec<f32> = (0..=u16::MAX).map(|bits| from_bits(bits).widen() as f32).collect();
        for step in 0..3 {
            let got = round::<E>(&all, step);
            assert!(
                all.iter().zip(&got).all(|(&x, &y)| f64::from(x).to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
            );
        }
    }
    kept::<f16>(f16::from_bits);
    kept::<bf16>(bf16::from_bits);
    for step in 0..100 {
        assert_eq!(
            round::<f16>(&[65510.0, -65519.0, 65520.0, f32::INFINITY], step),
            [65504.0, -65504.0, f64::INFINITY, f64::INFINITY]
        );
        let most = bf16::MAX.to_f64();
        assert_eq!(round::<bf16>(&[3.39e38, f32::MAX], step), [most, f64::INFINITY]);
    }
}

/// Compares the hash of the results with a constant. The results must have the same bits on every machine, for any
/// number of threads.
#[test]
fn the_same_bits_everywhere() {
    let from: Vec<f32> = (0..70_000).map(|i| 1.0 + i as f32 * 1e-5).collect();
    let bits = |step: u64| {
        let mut to = vec![bf16::ZERO; from.len()];
        stochastic_round(&from, &mut to, Stream::numbered(42, 1), step).unwrap();
        to.iter().map(|x| x.to_bits()).collect::<Vec<u16>>()
    };
    let all = bits(5);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(all == one.install(|| bits(5)));
    assert!(all != bits(6), "stochastic_round: steps 5 and 6 must have different random bits");
    // FNV-1a hash of all results.
    let hash =
        all.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &x| (hash ^ u64::from(x)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(
        hash, 0xddc0_8219_7770_7da8,
        "stochastic_round: the hash of the results must be 0xddc0821977707da8, got {hash:#x}"
    );
}

#[test]
fn lengths_and_types_are_checked() {
    let stream = Stream::numbered(0, 0);
    let error = stochastic_round(&[1.0; 3], &mut [f16::ONE; 2], stream, 0).unwrap_err();
    assert_eq!(error.name(), "ShapeMismatch");
    let error = stochastic_round(&[1.0; 3], &mut [1f32; 3], stream, 0).unwrap_err();
    assert_eq!(error.to_string(), "stochastic_round: the type of the results is F32; it must be F16 or BF16");
}

/// Checks the mean of many weights after steps that rounding to nearest would lose. The variance of one rounding is at
/// most a quarter of the squared spacing, and roundings are independent. This limits the deviation of the mean.
#[test]
fn small_steps_accumulate_on_average() {
    const COUNT: usize = 4096;
    const STEPS: usize = 200;
    let (mut halves, mut brains) = (vec![f16::ONE; COUNT], vec![bf16::ONE; COUNT]);
    let params = [(&halves).into(), (&brains).into()];
    let mut optimizer = Optimizer::new(Sgd::default().lr(1e-4), &params).unwrap().stochastic_rounding(42);
    let grad = vec![1f32; COUNT];
    for _ in 0..STEPS {
        let mut params = [(&mut halves).into(), (&mut brains).into()];
        optimizer.step(&mut params, &[Some((&grad).into()), Some((&grad).into())]).unwrap();
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / COUNT as f64;
    let expected = 1.0 - 1e-4 * STEPS as f64;
    for (mean, spacing) in [
        (mean(halves.iter().map(|w| w.to_f64()).collect()), f64::from(f16::EPSILON) / 2.0),
        (mean(brains.iter().map(|w| w.to_f64()).collect()), f64::from(bf16::EPSILON) / 2.0),
    ] {
        let deviation = spacing / 2.0 * (STEPS as f64 / COUNT as f64).sqrt();
        // The tolerance includes one rounding to f32 per step.
        let allowed = 6.0 * deviation + STEPS as f64 * f64::from(f32::EPSILON);
        assert!(
            (mean - expected).abs() <= allowed,
            "weights after {STEPS} steps: expected a mean of {expected} within an error of {allowed:e}, got {mean}"
        );
    }
    assert!(optimizer.state().iter().all(|state| state.master.is_none()));
}

/// Checks that a restored optimiser continues with the same bits, and that two equal parameters get different random
/// bits.
#[test]
fn it_goes_on_after_a_restart() {
    let start = vec![bf16::from_f32(0.7); 100];
    let new = |params: &[Vec<bf16>; 2]| {
        let params = params.each_ref().map(|param| param.into());
        Optimizer::new(AdamW::default(), &params).unwrap().stochastic_rounding(1)
    };
    let step = |optimizer: &mut Optimizer<AdamW>, [a, b]: &mut [Vec<bf16>; 2]| {
        let grad = vec![0.5f32; 100];
        optimizer.step(&mut [a.into(), b.into()], &[Some((&grad).into()), Some((&grad).into())]).unwrap();
    };
    let mut params = [start.clone(), start];
    let mut optimizer = new(&params);
    (0..10).for_each(|_| step(&mut optimizer, &mut params));
    assert!(params[0] != params[1], "stochastic rounding: two equal parameters must have different random bits");
    let mut again = new(&params);
    again.restore(optimizer.state().to_vec()).unwrap();
    let mut same = params.clone();
    (0..10).for_each(|_| step(&mut optimizer, &mut params));
    (0..10).for_each(|_| step(&mut again, &mut same));
    assert!(params == same && optimizer.state() == again.state());
    // A state with master weights is rejected, because it belongs to an optimiser without stochastic rounding.
    let params = params.each_ref().map(|param| param.into());
    let with = Optimizer::new(AdamW::default(), &params).unwrap();
    assert_eq!(again.restore(with.state().to_vec()).unwrap_err().name(), "ShapeMismatch");
}

#[test]
fn a_parameter_of_another_length_is_refused() {
    let mut optimizer = Optimizer::new(Sgd::default(), &[(&[bf16::ONE; 5]).into()]).unwrap().stochastic_rounding(1);
    let error = optimizer.step(&mut [(&mut [bf16::ONE; 3]).into()], &[Some((&[1f32; 3]).into())]).unwrap_err();
    assert_eq!(error.name(), "ShapeMismatch", "3 weights instead of 5: expected a ShapeMismatch error, got {error}");
}
