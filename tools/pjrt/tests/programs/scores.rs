//! Tests of softmax, log_softmax and logsumexp, on rows of every kind with masks of every kind.

use crate::support::{Device, Matrix, Worst, flushed, rng};
use evenkeel::neuron::run;
use evenkeel::testing::hostile;
use evenkeel::testing::values::Bits;
use evenkeel::{Error, FullyMasked, Mask, Softmax, reference};
use rand::RngExt;

mod tests {
    crate::support::for_each_dtype!(plain, masked, scaled, refused);
}

/// Rows of typical and hostile logits, some of which are not finite.
fn rows<E: Bits>(cols: usize) -> Matrix<E> {
    let mut rng = rng();
    let mut x = Matrix::new(cols);
    for hostile in hostile::scores::<E>(cols) {
        x.push(hostile.name, &hostile.row);
    }
    x.push_random(&mut rng, &[0.01, 1.0, 4.0, 20.0, 100.0, 1e4]);
    for (name, value) in [("NaN", E::NAN), ("+inf", E::INFINITY), ("-inf", E::NEG_INFINITY)] {
        x.push_random(&mut rng, &[2.0]);
        x.push_with(name, value);
    }
    x.push("all -inf", &vec![E::NEG_INFINITY; cols]);
    x.push("all lowest", &vec![E::from_wide(-E::LIMITS.max); cols]);
    let ends: Vec<E> =
        (0..cols).map(|i| E::from_wide(if i % 2 == 0 { -E::LIMITS.max } else { E::LIMITS.max })).collect();
    x.push("both ends", &ends);
    x.push(
        "below every sentinel",
        &(0..cols).map(|i| E::from_wide(-4000.0 - 4.0 * (i % 4) as f64)).collect::<Vec<_>>(),
    );
    x
}

/// Options, and the expanded mask with an entry for each logit.
struct Case<'a, E> {
    x: &'a Matrix<E>,
    options: Softmax<'a>,
    keep: Option<&'a [bool]>,
    bias: Option<&'a [f32]>,
    /// Factor that multiplies the bounds, because a softcap adds error.
    factor: f64,
}

impl<E: Bits> Case<'_, E> {
    /// Returns the logits of a row as devices compute them.
    fn logits(&self, row: usize) -> Vec<f64> {
        let (cols, Softmax { scale, softcap, .. }) = (self.x.cols, self.options);
        let logit = |col: usize| {
            let at = row * cols + col;
            let x = flushed(self.x.row(row)[col].widen());
            if self.keep.is_some_and(|keep| !keep[at]) || x == f64::NEG_INFINITY {
                return f64::NEG_INFINITY;
            }
            let finite = |z: f64| if x.is_finite() { z.clamp(f32::MIN.into(), f32::MAX.into()) } else { z };
            let mut z = finite(f64::from((x * f64::from(scale as f32)) as f32));
            if let Some(cap) = softcap {
                z = cap * (z / cap).tanh();
            }
            match self.bias.map(|bias| bias[at]) {
                None => z,
                Some(f32::NEG_INFINITY) => f64::NEG_INFINITY,
                Some(bias) => finite(f64::from((z + f64::from(bias)) as f32)),
            }
        };
        (0..cols).map(logit).collect()
    }

    fn check(&self, device: &Device) {
        let (x, options, cols) = (self.x, &self.options, self.x.cols);
        let what = |op: &str| format!("{op} {} of {}x{cols}", E::DTYPE, x.rows());
        let y = run::softmax(device, x.view(), options).unwrap_or_else(|e| panic!("{}: {e}", what("softmax")));
        let mut worst = Worst::new::<E>("softmax", device).times(self.factor);
        let log_y = run::log_softmax(device, x.view(), options).unwrap_or_else(|e| panic!("{}: {e}", what("log")));
        let mut log_worst = Worst::new::<E>("log_softmax", device).times(self.factor);
        // log_softmax computes result / 2 and doubles it. If the device flushes result / 2 to 0, the result is off by
        // twice the flushed number.
        log_worst.lost *= 2.0;
        let lse = run::logsumexp(device, x.view(), options).unwrap_or_else(|e| panic!("{}: {e}", what("lse")));
        let mut lse_worst = Worst::new::<E>("logsumexp", device).times(self.factor);
        let (masked, log_masked) = match options.fully_masked {
            FullyMasked::Uniform => (1.0 / cols as f64, -(cols as f64).ln()),
            _ => (0.0, f64::NEG_INFINITY),
        };
        for (row, name) in x.names.iter().enumerate() {
            let logits = self.logits(row);
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let expected = reference::softmax_of(&logits).unwrap_or_else(|| vec![masked; cols]);
            worst.check_row(name, &y[row * cols..][..cols], &expected, |_| 0.0);
            let log_sum = reference::logsumexp_of(&logits) - max;
            let expected = reference::log_softmax_of(&logits).unwrap_or_else(|| vec![log_masked; cols]);
            let term = |i: usize| if logits[i].is_finite() { (logits[i] - max).abs().max(log_sum) } else { 0.0 };
            log_worst.check_row(name, &log_y[row * cols..][..cols], &expected, term);
            let expected = reference::logsumexp_of(&logits);
            lse_worst.check(name, lse[row], expected, if max.is_finite() { max.abs() } else { 0.0 });
        }
    }
}

fn case<E>(x: &Matrix<E>) -> Case<'_, E> {
    Case { x, options: Softmax::default(), keep: None, bias: None, factor: 1.0 }
}

fn plain<E: Bits>(device: &Device) {
    for cols in [1, 130, 1000] {
        case(&rows::<E>(cols)).check(device);
    }
    let x = rows::<E>(33);
    for fully_masked in [FullyMasked::Zeros, FullyMasked::Uniform] {
        Case { options: Softmax::default().fully_masked(fully_masked), ..case(&x) }.check(device);
    }
}

fn masked<E: Bits>(device: &Device) {
    let (x, mut rng) = (rows::<E>(65), rng());
    let (rows, cols) = (x.rows(), x.cols);
    let shape = [rows, cols];
    // All flags of row 1 are unset, so it is fully masked. In other odd rows, the flags of non-finite values are unset.
    let flag = |i: usize, by_chance: bool| {
        i / cols != 1 && by_chance && ((i / cols).is_multiple_of(2) || x.data[i].widen().is_finite())
    };
    let keep: Vec<bool> = (0..rows * cols).map(|i| flag(i, rng.random_bool(0.7))).collect();
    let bias: Vec<f32> = (0..rows * cols)
        .map(|_| if rng.random_bool(0.1) { f32::NEG_INFINITY } else { rng.random_range(-3.0..3.0) })
        .collect();
    let by_flags = Mask::keep(&keep, &shape);
    for fully_masked in [FullyMasked::Zeros, FullyMasked::Uniform] {
        let options = Softmax::default().mask(&by_flags).fully_masked(fully_masked);
        Case { options, keep: Some(&keep), ..case(&x) }.check(device);
    }
    let by_both = Mask::keep(&keep, &shape).and_bias(&bias, &shape);
    let options = Softmax::default().mask(&by_both);
    Case { options, keep: Some(&keep), bias: Some(&bias), ..case(&x) }.check(device);
    let by_bias = Mask::bias(&bias, &shape);
    Case { options: Softmax::default().mask(&by_bias), bias: Some(&bias), ..case(&x) }.check(device);
    let lengths = [cols - 5];
    let causal = Mask::causal().and_lengths(&lengths);
    let first = cols as isize - rows as isize;
    let keep: Vec<bool> =
        (0..rows * cols).map(|i| ((i % cols) as isize) <= first + (i / cols) as isize && i % cols < cols - 5).collect();
    Case { options: Softmax::default().mask(&causal), keep: Some(&keep), ..case(&x) }.check(device);
}

fn scaled<E: Bits>(device: &Device) {
    let x = rows::<E>(65);
    for scale in [0.125, 1.0 / 80f64.sqrt(), 3.0, -1.0, 0.0] {
        Case { options: Softmax::default().scale(scale), ..case(&x) }.check(device);
    }
    let zeros = vec![0.5f32; x.data.len()];
    let shape = [x.rows(), x.cols];
    let mask = Mask::bias(&zeros, &shape);
    let options = Softmax::default().scale(0.25).mask(&mask);
    Case { options, bias: Some(&zeros), ..case(&x) }.check(device);
    Case { options: Softmax::default().scale(0.25).softcap(30.0), factor: 8.0, ..case(&x) }.check(device);
}

fn refused<E: Bits>(device: &Device) {
    let x = rows::<E>(9);
    let row = x.names.iter().position(|name| name == "all -inf").unwrap();
    let options = Softmax::default().fully_masked(FullyMasked::Error);
    let error = run::softmax(device, x.view(), &options).unwrap_err();
    assert_eq!(error, Error::fully_masked("softmax", row));
    let error = run::softmax(device, x.view(), &Softmax::default().scale(1e300)).unwrap_err();
    assert_eq!(error.name(), "InvalidArgument");
}
