//! Tests of rms_norm, without and with a residual, and of layer_norm.

use crate::support::{Device, Matrix, Worst, flushed, rng};
use evenkeel::neuron::run;
use evenkeel::reference::Real;
use evenkeel::testing::hostile;
use evenkeel::testing::values::Bits;
use evenkeel::{Error, LayerNorm, RmsNorm, Rounding, reference};
use rand::RngExt;

mod tests {
    crate::support::for_each_dtype!(rms_norm, rms_norm_residual, layer_norm, refused);
}

const NOT_FINITE: [&str; 3] = ["NaN", "+inf", "-inf"];

fn rows<E: Bits>(cols: usize) -> Matrix<E> {
    let mut rng = rng();
    let mut x = Matrix::new(cols);
    for hostile in hostile::vectors::<E>(cols) {
        x.push(hostile.name, &hostile.row);
    }
    x.push("far from zero", &hostile::far_mean::<E>(cols).row);
    let max = E::LIMITS.max;
    for exponent in [-120, -100, -84, -63, -42, -21, -10, 0, 10, 21, 42, 63, 84, 100, 120] {
        let size = 2f64.powi(exponent);
        if (E::LIMITS.min_normal..max / 8.0).contains(&size) {
            x.push_random(&mut rng, &[size]);
        }
    }
    x.push("zeros", &vec![E::ZERO; cols]);
    x.push("equal", &vec![E::from_wide(3.0); cols]);
    for (name, value) in NOT_FINITE.into_iter().zip([E::NAN, E::INFINITY, E::NEG_INFINITY]) {
        x.push_random(&mut rng, &[2.0]);
        x.push_with(name, value);
    }
    x
}

/// Returns the row that the device computes with. If all elements are finite, subnormal numbers are flushed to 0.
fn row_of<E: Bits>(x: &[E]) -> Vec<f64> {
    let finite = x.iter().all(|x| x.widen().is_finite());
    x.iter().map(|x| if finite { flushed(x.widen()) } else { x.widen() }).collect()
}

/// Returns an upper bound of the error from flushing intermediate values to 0: 8 times the smallest normal number,
/// times `1 + 1 / r`. Here `r` is the root by which the norm divides, `sqrt(mean((x - mean)^2) + eps)`.
fn lost(x: &[f64], mean: f64, eps: f64) -> f64 {
    let squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    let root = (squares / x.len() as f64 + eps).sqrt();
    let least = 8.0 * f64::from(f32::MIN_POSITIVE);
    if root == 0.0 { least } else { least * (1.0 + 1.0 / root) }
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

fn weights(cols: usize) -> Vec<f32> {
    let mut rng = rng();
    (0..cols).map(|_| rng.random_range(-2.0..2.0)).collect()
}

fn rms_norm<E: Bits>(device: &Device) {
    for cols in [1, 130, 1000] {
        let x = rows::<E>(cols);
        let weight = weights(cols);
        let wide: Vec<f64> = weight.iter().map(|w| f64::from(*w)).collect();
        // The op adds the offset to the weight before it rounds the sum to f32.
        let summed: Vec<f64> = wide.iter().map(|w| f64::from((w + 1.0) as f32)).collect();
        let by_offset = RmsNorm::default().weight(&weight).weight_offset(1.0).eps(1e-5);
        let cases: [(RmsNorm<'_>, Option<&[f64]>); 5] = [
            (RmsNorm::default(), None),
            (RmsNorm::default().eps(0.0), None),
            (RmsNorm::default().eps(1e-30), None),
            (RmsNorm::default().weight(&weight), Some(&wide)),
            (by_offset, Some(&summed)),
        ];
        for (options, weight) in cases {
            let y = run::rms_norm(device, x.view(), &options).unwrap();
            let mut worst = Worst::new::<E>("rms_norm", device);
            for (row, name) in x.names.iter().enumerate() {
                let of_row = row_of(x.row(row));
                let expected = reference::rms_norm(&narrow(&of_row), weight, 0.0, options.eps);
                let case = format!("{name}, {cols} columns, eps {}", options.eps);
                if NOT_FINITE.contains(&&name[..]) {
                    let host = evenkeel::rms_norm(evenkeel::Rows::new(x.row(row), 1, cols).unwrap(), &options).unwrap();
                    evenkeel::testing::assert_same_bits(&case, &y[row * cols..][..cols], &host);
                    continue;
                }
                worst.lost = lost(&of_row, 0.0, options.eps);
                worst.check_row(&case, &y[row * cols..][..cols], &expected, |_| 0.0);
            }
        }
    }
}

fn rms_norm_residual<E: Bits>(device: &Device) {
    let (x, cols) = (rows::<E>(128), 128);
    let mut residual = x.data.clone();
    residual.rotate_right(3 * cols + 5);
    let residual = evenkeel::Rows::new(&residual, x.rows(), cols).unwrap();
    let weight = weights(cols);
    for rounding in [Rounding::Once, Rounding::BeforeWeight] {
        let options = RmsNorm::default().weight(&weight).rounding(rounding);
        let (y, sum) = run::rms_norm_residual(device, x.view(), residual, &options).unwrap();
        let (host_y, host_sum) = evenkeel::rms_norm_residual(x.view(), residual, &options).unwrap();
        // Near a tie, `BeforeWeight` may round the normalised value to the other neighbour before it multiplies by the
        // weight. The bound for `BeforeWeight` is therefore multiplied by 3.
        let factor = if rounding == Rounding::Once { 1.0 } else { 3.0 };
        let mut worst = Worst::new::<E>("rms_norm", device).times(factor);
        for (i, (sum, host)) in sum.iter().zip(&host_sum).enumerate() {
            // Flushing x and the residual changes the sum by less than twice the smallest normal number.
            let near = (sum.widen() - host.widen()).abs() <= 2.0 * f64::from(f32::MIN_POSITIVE);
            assert!(
                near || sum.bits() == host.bits(),
                "rms_norm_residual of {}: expected element {i} of the sum to be {:e} as on the host, got {:e}",
                E::DTYPE,
                host.widen(),
                sum.widen()
            );
        }
        for row in 0..x.rows() {
            let range = row * cols..(row + 1) * cols;
            let sum = &host_sum[range.clone()];
            if sum.iter().any(|x| !x.widen().is_finite()) {
                evenkeel::testing::assert_same_bits("not finite", &y[range.clone()], &host_y[range]);
                continue;
            }
            let of_row = row_of(sum);
            worst.lost = lost(&of_row, 0.0, 1e-6);
            let flushed: Vec<E> = of_row.into_iter().map(E::from_wide).collect();
            let weight: Vec<f64> = weight.iter().map(|w| f64::from(*w)).collect();
            let exact = match rounding {
                Rounding::BeforeWeight => reference::rms_norm_before_weight(&flushed, Some(&weight), 0.0, 1e-6),
                _ => reference::rms_norm(&flushed, Some(&weight), 0.0, 1e-6),
            };
            let exact: Vec<f64> = exact.into_iter().map(Real::to_f64).collect();
            worst.check_row(&x.names[row], &y[range], &exact, |_| 0.0);
        }
    }
}

fn layer_norm<E: Bits>(device: &Device) {
    for cols in [1, 130, 1000] {
        let x = rows::<E>(cols);
        let (weight, mut bias) = (weights(cols), weights(cols));
        bias.reverse();
        let wide = |of: &[f32]| of.iter().map(|w| f64::from(*w)).collect::<Vec<f64>>();
        let (wide_weight, wide_bias) = (wide(&weight), wide(&bias));
        let cases = [
            (LayerNorm::default(), None, None),
            (LayerNorm::default().eps(1e-12), None, None),
            (LayerNorm::default().weight(&weight), Some(&wide_weight[..]), None),
            (LayerNorm::default().bias(&bias), None, Some(&wide_bias[..])),
            (LayerNorm::default().weight(&weight).bias(&bias), Some(&wide_weight[..]), Some(&wide_bias[..])),
        ];
        for (options, weight, bias) in cases {
            let y = run::layer_norm(device, x.view(), &options).unwrap();
            let mut worst = Worst::new::<E>("layer_norm", device);
            for (row, name) in x.names.iter().enumerate() {
                let case = format!("{name}, {cols} columns, eps {}", options.eps);
                let of_row = row_of(x.row(row));
                worst.lost = lost(&of_row, of_row.iter().sum::<f64>() / cols as f64, options.eps);
                let narrow = narrow(&of_row);
                let expected = reference::layer_norm(&narrow, weight, bias, options.eps);
                // The unit of error is the ULP of the result's larger term: the bias, or the weight times the largest
                // normalised element of the row.
                let plain = reference::layer_norm(&narrow, None, None, options.eps);
                let largest = plain.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
                let of = |operand: Option<&[f64]>, i: usize| operand.map(|values| values[i].abs());
                let term = |i: usize| (largest * of(weight, i).unwrap_or(1.0)).max(of(bias, i).unwrap_or(0.0));
                worst.check_row(&case, &y[row * cols..][..cols], &expected, term);
            }
        }
    }
}

fn refused<E: Bits>(device: &Device) {
    let x = rows::<E>(3);
    let weight = [1.0f32, f32::NAN, 1.0];
    let error = run::rms_norm(device, x.view(), &RmsNorm::default().weight(&weight)).unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { argument: "weight", .. }),
        "expected an error about the weight, got {error}"
    );
    let error = run::layer_norm(device, x.view(), &LayerNorm::default().bias(&weight[..2])).unwrap_err();
    assert!(
        matches!(error, Error::ShapeMismatch { argument: "bias", .. }),
        "expected an error about the bias, got {error}"
    );
}
