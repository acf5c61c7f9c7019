//! Tests of initial weights: distributions against their closed forms, and bits that depend only on seed, name and
//! index.
//!
//! Seeds are fixed, so a test that passes once always passes. Comments state how likely a failure by chance was when a
//! seed was chosen.

use evenkeel::train::init::{Fan, Gain, Init, Spread, Stream, fill};
use evenkeel::{Draw, Element, Error, SamplerConfig};
use half::{bf16, f16};

const COUNT: usize = 1 << 16;

fn made<E: Element>(init: &Init, shape: &[usize], stream: Stream) -> Vec<E> {
    let mut x = vec![E::ZERO; shape.iter().product()];
    fill(&mut x[..], shape, init, stream).unwrap();
    x
}

/// Draws 65,536 values in f64.
fn wide(init: &Init) -> Vec<f64> {
    made(init, &[256, 256], Stream::named(7, "distribution"))
}

/// Returns the largest distance between the empirical and a known distribution, times the square root of the count. The
/// result exceeds `d` with probability `2 * e^(-2 * d^2)` (Kolmogorov), so it exceeds 2.4 once in 50,000 runs.
fn distance(mut x: Vec<f64>, known: impl Fn(&[f64]) -> Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let of = |(i, p): (usize, &f64)| (p - i as f64 / n).abs().max(((i + 1) as f64 / n - p).abs());
    known(&x).iter().enumerate().map(of).fold(0.0, f64::max) * n.sqrt()
}

/// Returns the cumulative distribution function of the standard normal distribution at each x.
fn normal(x: impl Iterator<Item = f64>) -> Vec<f64> {
    let x: Vec<f64> = x.map(|x| x / 2f64.sqrt()).collect();
    evenkeel::erf(&x).unwrap().iter().map(|erf| 0.5 * (1.0 + erf)).collect()
}

fn each(f: impl Fn(f64) -> f64) -> impl Fn(&[f64]) -> Vec<f64> {
    move |x| x.iter().map(|x| f(*x)).collect()
}

fn moments(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    (mean, x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n)
}

#[test]
fn distributions_are_what_they_are_called() {
    let uniform = wide(&Init::Uniform { low: -3.0, high: 5.0 });
    assert!(uniform.iter().all(|x| (-3.0..5.0).contains(x)));
    assert!(distance(uniform, each(|x| (x + 3.0) / 8.0)) < 2.4);

    let bell = wide(&Init::Normal { mean: 2.0, std: 0.5 });
    assert!(distance(bell, |x| normal(x.iter().map(|x| (x - 2.0) / 0.5))) < 2.4);

    // The limits are around the mean, both above the mean, or far from the mean. One case has no upper limit.
    for (low, high) in [(-2.0, 2.0), (-0.5, 3.0), (1.0, 4.0), (4.0, 9.0), (-1.0, f64::INFINITY), (-30.0, 40.0)] {
        let x = wide(&Init::TruncatedNormal { mean: 1.0, std: 2.0, low: 1.0 + 2.0 * low, high: 1.0 + 2.0 * high });
        assert!(
            x.iter().all(|x| (1.0 + 2.0 * low..=1.0 + 2.0 * high).contains(x)),
            "TruncatedNormal: (value - mean) / std must be from {low} to {high}, but one value is {:?}",
            x.iter().find(|x| !(1.0 + 2.0 * low..=1.0 + 2.0 * high).contains(*x))
        );
        // If both limits are above the mean, the test uses upper tails instead of lower ones. Lower tails would be
        // close to 1, and their differences would lose all digits.
        let sign = if low > 0.0 { -1.0 } else { 1.0 };
        let below = |x: &[f64]| normal(x.iter().map(|x| sign * x)).iter().map(|p| sign * p).collect::<Vec<_>>();
        let ends = below(&[low, high]);
        let known = |x: &[f64]| {
            let x: Vec<f64> = x.iter().map(|x| (x - 1.0) / 2.0).collect();
            below(&x).iter().map(|p| (p - ends[0]) / (ends[1] - ends[0])).collect()
        };
        let d = distance(x, known);
        assert!(d < 2.4, "TruncatedNormal from {low} to {high}: expected a Kolmogorov distance below 2.4, got {d}");
    }
}

/// Checks a distribution far out in the tail. There, the distribution is nearly exponential, so the mean is
/// `low + 1 / low`, up to an error of `1 / low^3`.
#[test]
fn a_tail_is_drawn_from_as_such() {
    let low = 40.0;
    let x = wide(&Init::TruncatedNormal { mean: 0.0, std: 1.0, low, high: f64::INFINITY });
    assert!(x.iter().all(|x| *x >= low));
    let (mean, _) = moments(&x);
    // The standard deviation of one value is about 1 / low. About once in a million runs, the mean of all values is off
    // by more than 5 of the mean's standard deviations.
    assert!(
        (mean - low - 1.0 / low).abs() < 5.0 / low / (COUNT as f64).sqrt() + 2.0 / low.powi(3),
        "standard normal values above {low}: expected a mean of {low} + 1 / {low}, got {mean}"
    );
    assert!(distance(x, each(|x| 1.0 - (-(x - low) * (x + low) / 2.0).exp() * (low / x))) < 2.4);
}

#[test]
fn moments_are_those_of_the_closed_form() {
    let shape = [128, 64, 3, 3];
    let (fan_in, fan_out) = (64.0 * 9.0, 128.0 * 9.0);
    let relu = 2.0;
    // Each case has an initialisation, its variance, and the fourth moment divided by the squared variance. This ratio
    // is 9/5 for a uniform distribution and 3 for a normal distribution.
    let cases = [
        (Init::xavier_uniform(0.5), 0.25 * 2.0 / (fan_in + fan_out), 9.0 / 5.0),
        (Init::xavier_normal(1.0), 2.0 / (fan_in + fan_out), 3.0),
        (Init::kaiming_uniform(Gain::Relu, Fan::In), relu / fan_in, 9.0 / 5.0),
        (Init::kaiming_normal(Gain::Relu, Fan::Out), relu / fan_out, 3.0),
        (Init::kaiming_uniform(Gain::LeakyRelu(5f64.sqrt()), Fan::In), 1.0 / 3.0 / fan_in, 9.0 / 5.0),
        (Init::lecun_uniform(), 1.0 / fan_in, 9.0 / 5.0),
        (Init::lecun_normal(), 1.0 / fan_in, 3.0),
        (Init::kaiming_normal(Gain::Tanh, Fan::Average), 25.0 / 9.0 / ((fan_in + fan_out) / 2.0), 3.0),
        (
            Init::Scaled { gain: Gain::Selu, fan: Fan::In, spread: Spread::TruncatedNormal },
            0.5625 / fan_in,
            // The truncated distribution has a ratio below 3.
            3.0,
        ),
    ];
    for (i, (init, variance, kurtosis)) in cases.into_iter().enumerate() {
        let x: Vec<f64> = made(&init, &shape, Stream::numbered(11, i as u64));
        let n = x.len() as f64;
        let (mean, got) = moments(&x);
        // About once in a million runs, the mean is off by more than 5 of its standard deviations. The same holds for
        // the variance.
        assert!(mean.abs() < 5.0 * (variance / n).sqrt(), "{init:?}: expected a mean of about 0, got {mean}");
        let off = 5.0 * ((kurtosis - 1.0) / n).sqrt();
        assert!((got / variance - 1.0).abs() < off, "{init:?}: expected a variance of {variance}, got {got}");
        // Checks the largest magnitude, which some distributions limit.
        let largest = x.iter().fold(0.0f64, |a, x| a.max(x.abs()));
        match init {
            Init::Scaled { spread: Spread::Uniform, .. } => assert!(largest <= (3.0 * variance).sqrt() * (1.0 + 1e-15)),
            Init::Scaled { spread: Spread::TruncatedNormal, .. } => {
                assert!(largest <= 2.0 * variance.sqrt() / 0.879_625_661);
            }
            _ => assert!(largest <= 8.6 * variance.sqrt()),
        }
    }
}

/// Compares with the results of `torch.nn.init.calculate_gain`.
#[test]
fn gains() {
    let of = |gain: Gain| gain.value().unwrap();
    assert_eq!(of(Gain::Linear), 1.0);
    assert_eq!(of(Gain::Sigmoid), 1.0);
    assert_eq!(of(Gain::Tanh), 1.6666666666666667);
    assert_eq!(of(Gain::Relu), std::f64::consts::SQRT_2);
    assert_eq!(of(Gain::LeakyRelu(0.01)), 1.4141428569978354);
    assert_eq!(of(Gain::LeakyRelu(5f64.sqrt())), 0.5773502691896257);
    assert_eq!(of(Gain::Selu), 0.75);
    assert_eq!(of(Gain::from(0.5)), 0.5);
    for gain in [Gain::Explicit(-0.1), Gain::Explicit(f64::NAN), Gain::LeakyRelu(f64::INFINITY)] {
        assert_eq!(gain.value().unwrap_err().name(), "InvalidArgument");
    }
}

/// Checks that an element does not depend on the number of elements, the type, or the number of threads.
#[test]
fn elements_hang_on_seed_name_and_index_alone() {
    let inits = [
        Init::Uniform { low: -1.0, high: 1.0 },
        Init::Normal { mean: 0.0, std: 1.0 },
        Init::TruncatedNormal { mean: 0.0, std: 1.0, low: -2.0, high: 0.5 },
    ];
    for init in inits {
        let of = |seed, name: &str, shape: &[usize]| made::<f64>(&init, shape, Stream::named(seed, name));
        let all = of(1, "a", &[3, 40_000]);
        assert_eq!(of(1, "a", &[37])[..], all[..37]);
        assert_eq!(of(1, "a", &[120_000]), all);
        assert_ne!(of(2, "a", &[37])[..], all[..37]);
        assert_ne!(of(1, "b", &[37])[..], all[..37]);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| of(1, "a", &[3, 40_000])), all);
        for level in evenkeel::simd::Level::ALL.iter().copied().filter(|level| level.is_available()) {
            assert_eq!(evenkeel::simd::with_level(level, || of(1, "a", &[1000])).unwrap()[..], all[..1000]);
        }
        let stream = Stream::named(1, "a");
        let same = |narrow: Vec<f64>, round: fn(f64) -> f64| {
            assert!(narrow.iter().zip(&all).all(|(narrow, wide)| *narrow == round(*wide)));
        };
        same(made::<f32>(&init, &[4000], stream).iter().map(|x| x.widen()).collect(), |x| f32::from_wide(x).widen());
        same(made::<f16>(&init, &[4000], stream).iter().map(|x| x.widen()).collect(), |x| f16::from_wide(x).widen());
        same(made::<bf16>(&init, &[4000], stream).iter().map(|x| x.widen()).collect(), |x| bf16::from_wide(x).widen());
    }
}

/// Checks which bits a seed gives. These bits are part of the documented behaviour.
#[test]
fn pinned() {
    let stream = Stream::named(42, "layer.0.weight");
    let bits = |init: &Init| made::<f64>(init, &[4], stream).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let inits = [
        Init::Uniform { low: 0.0, high: 1.0 },
        Init::Normal { mean: 0.0, std: 1.0 },
        Init::TruncatedNormal { mean: 0.0, std: 1.0, low: -2.0, high: 2.0 },
    ];
    assert_eq!(inits.each_ref().map(bits).concat(), PINNED);
}

/// Expected bits of four uniform, four normal and four truncated normal values. A Python version of the papers'
/// formulas gives exactly the uniform and the truncated normal values. Its normal values differ by at most 2^-53.
const PINNED: [u64; 12] = [
    0x3fe0_ae8d_83c7_883d,
    0x3fe6_7998_a57b_1677,
    0x3fec_9852_4b24_9670,
    0x3fc7_7405_b318_0b88,
    0x3fe3_9804_03c8_99b6,
    0x3ff7_eeea_de89_6ae9,
    0xbff7_054f_5888_ca9b,
    0xbfc6_614c_c710_2798,
    0x3fb5_d1b0_78f1_07a0,
    0xbfe4_4e79_391e_a184,
    0x3ff6_1a65_2781_e5ae,
    0x3fe5_14a2_9311_d9dc,
];

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |init: Init, shape: &[usize]| {
        let mut x = vec![f16::ONE; shape.iter().product()];
        let error = fill(&mut x[..], shape, &init, Stream::named(0, "x")).unwrap_err();
        assert!(x.iter().all(|x| *x == f16::ONE));
        error.name()
    };
    let far = f64::INFINITY;
    for init in [
        Init::Constant(f64::NAN),
        Init::Constant(65505.0),
        Init::Uniform { low: 1.0, high: 0.5 },
        Init::Uniform { low: f64::NAN, high: 0.5 },
        Init::Uniform { low: -1e5, high: 0.5 },
        Init::Uniform { low: -5e4, high: 5e4 },
        Init::Normal { mean: 0.0, std: -1.0 },
        Init::Normal { mean: f64::NAN, std: 1.0 },
        Init::Normal { mean: 0.0, std: far },
        Init::Normal { mean: 0.0, std: 10_000.0 },
        Init::TruncatedNormal { mean: 0.0, std: 1.0, low: 1.0, high: -1.0 },
        Init::TruncatedNormal { mean: 0.0, std: 1.0, low: f64::NAN, high: 1.0 },
        Init::TruncatedNormal { mean: 0.0, std: 1.0, low: far, high: far },
        Init::TruncatedNormal { mean: 0.0, std: f64::NAN, low: -far, high: far },
        Init::TruncatedNormal { mean: 0.0, std: 10_000.0, low: -far, high: far },
        Init::TruncatedNormal { mean: 0.0, std: 0.0, low: 1e5, high: far },
        Init::xavier_uniform(-1.0),
        Init::kaiming_normal(Gain::LeakyRelu(f64::NAN), Fan::In),
        Init::kaiming_normal(1e6, Fan::In),
    ] {
        assert_eq!(refused(init, &[2, 3]), "InvalidArgument", "{init:?} must give the error InvalidArgument");
    }
    assert_eq!(refused(Init::lecun_normal(), &[6]), "ShapeMismatch");
    assert_eq!(refused(Init::lecun_normal(), &[]), "ShapeMismatch");
    let mut six = [0f32; 6];
    for shape in [&[5][..], &[2, 4], &[usize::MAX, 2, 3]] {
        let error = fill(&mut six, shape, &Init::Constant(0.0), Stream::named(0, "x")).unwrap_err();
        assert!(
            matches!(error, Error::ShapeMismatch { .. }),
            "6 weights of shape {shape:?}: expected a ShapeMismatch error, got {error}"
        );
    }
    // Empty tensors and distributions without spread are valid.
    assert!(made::<f32>(&Init::lecun_normal(), &[3, 0], Stream::numbered(0, 0)).is_empty());
    assert_eq!(made::<f32>(&Init::Uniform { low: 2.0, high: 2.0 }, &[2], Stream::numbered(0, 0)), [2.0; 2]);
    assert_eq!(made::<f32>(&Init::Normal { mean: 2.0, std: 0.0 }, &[2], Stream::numbered(0, 0)), [2.0; 2]);
    let point = Init::TruncatedNormal { mean: 0.0, std: 0.0, low: 1.0, high: 3.0 };
    assert_eq!(made::<f32>(&point, &[2], Stream::numbered(0, 0)), [1.0; 2]);
    let far = Init::TruncatedNormal { mean: 0.0, std: 1e-300, low: 1.0, high: 3.0 };
    assert_eq!(made::<f32>(&far, &[2], Stream::numbered(0, 0)), [1.0; 2]);
}

/// Checks that one seed may be used for both weights and tokens. The random bits of a weight depend on the seed, the
/// tensor's number and the element's index. The random bits of a token depend on the seed, the row and the draw number.
/// The two kinds of bits differ even if the row equals the tensor's number and the draw number equals the element's
/// index.
#[test]
fn weights_and_draws_of_one_seed_have_nothing_in_common() {
    const TOKENS: usize = 1 << 16;
    let sampler = SamplerConfig::default().validate().unwrap();
    let alike = sampler.distribution(&vec![f32::INFINITY; TOKENS], None, Draw::default()).unwrap();
    for (seed, row) in [(0, 0), (42, 7), (u64::MAX, 1 << 40)] {
        let weights: Vec<f64> = made(&Init::Uniform { low: 0.0, high: 1.0 }, &[1000], Stream::numbered(seed, row));
        let is_same = |(i, weight): (usize, &f64)| {
            let token = alike.draw(Draw { seed, row, draw: i as u64 }).token;
            token == (weight * TOKENS as f64) as u32
        };
        let same = weights.iter().enumerate().filter(|pair| is_same(*pair)).count();
        // A match by chance has a probability of 1 in 65,536.
        assert!(
            same < 5,
            "seed {seed}: at most 4 of 1,000 weights may share random bits with the sampler's draws, got {same}"
        );
    }
}
