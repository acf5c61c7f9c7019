//! Tests of the compositions of candle's ops. On the CPU, they may differ from the kernels only by rounding errors.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, tensor, ulp};
use candle_core::{DType, Result, Tensor, Var};
use evenkeel::candle::composition::NormKind;
use evenkeel::candle::{composition, guarded};
use evenkeel::{
    ClampedExp, ClampedLog, GroupNorm, L2Normalize, LayerNorm, Mask, RmsNorm, RmsNormLinear, Rope, RopeTable, Rounding,
    SafeDiv, Softmax,
};

/// Returns the machine epsilon of the type in which a composition computes: f64 for f64, otherwise f32.
fn unit(dtype: evenkeel::DType) -> f64 {
    if dtype == evenkeel::DType::F64 { f64::EPSILON } else { 2f64.powi(-23) }
}

/// Fails if a difference exceeds the sum of a relative and an absolute tolerance. In types other than f32, the
/// tolerance grows by one ULP for the rounding of the result.
#[track_caller]
fn assert_near(what: &str, dtype: evenkeel::DType, got: &Tensor, want: &Tensor, relative: f64, absolute: f64) {
    assert_eq!(
        (got.dims(), got.dtype()),
        (want.dims(), want.dtype()),
        "{what}: the result must have the shape and type of the expected tensor"
    );
    let want = flat(want);
    assert_close(what, &flat(got), &want, |i| {
        relative * want[i].abs() + absolute + if dtype == evenkeel::DType::F32 { 0.0 } else { ulp(dtype, want[i]) }
    });
}

#[test]
fn softmax_family() -> Result<()> {
    let inf = f32::INFINITY;
    let special = Tensor::new(
        &[
            [0f32, 1., -inf, 2.],
            [-inf, -inf, -inf, -inf],
            [80., -80., 3., 3.],
            [f32::NAN, 0., -inf, 1.],
            [-inf, f32::NAN, -inf, -inf],
        ],
        CPU,
    )?;
    for (dtype, ours) in DTYPES {
        for x in [tensor(&[3, 5, 40], dtype, 9.0, 1)?, special.to_dtype(dtype)?] {
            for options in
                [Softmax::default(), Softmax::default().scale(0.3), Softmax::default().scale(-1.5).softcap(5.0)]
            {
                for axis in 0..x.rank() {
                    // The bound covers two errors. One comes from rounding a logit's distance from the maximum. This
                    // distance is at most 160. The other comes from adding 40 terms.
                    let error = 500.0 * unit(ours);
                    let what = format!("{:?} along {axis} in {dtype:?}, {options:?}", x.dims());
                    let want = guarded::softmax(&x, axis, &options)?;
                    // The composition may round a subnormal exponential, or flush it to zero.
                    let tiny = 2f64.powi(-126);
                    assert_near(&what, ours, &composition::softmax(&x, axis, &options)?, &want, error, tiny);
                    let want = guarded::log_softmax(&x, axis, &options)?;
                    assert_near(&what, ours, &composition::log_softmax(&x, axis, &options)?, &want, error, error);
                    let want = guarded::logsumexp(&x, axis, true, &options)?;
                    assert_near(&what, ours, &composition::logsumexp(&x, axis, &options)?, &want, error, error);
                }
            }
        }
    }
    let infinite = Tensor::new(&[[inf, 0.0, -inf], [inf, inf, 1.0], [inf, f32::NAN, 0.0]], CPU)?;
    let y = flat(&composition::logsumexp(&infinite, 1, &Softmax::default())?);
    assert_eq!(y[..2], [f64::INFINITY; 2]);
    assert!(y[2].is_nan());
    assert!(flat(&composition::softmax(&infinite, 1, &Softmax::default())?).iter().all(|y| y.is_nan()));
    Ok(())
}

#[test]
fn masks_and_policies_are_refused() -> Result<()> {
    let x = tensor(&[2, 3], DType::F32, 1.0, 1)?;
    let mask = Mask::causal();
    for options in [
        Softmax::default().mask(&mask),
        Softmax::default().fully_masked(evenkeel::FullyMasked::Error),
        Softmax::default().fully_masked(evenkeel::FullyMasked::Uniform),
    ] {
        let error = evenkeel::Error::from(composition::softmax(&x, 1, &options).unwrap_err());
        assert_eq!(error.name(), "Backend");
    }
    let error = composition::softmax(&x, 1, &Softmax::default().scale(f64::NAN)).unwrap_err();
    assert_eq!(evenkeel::Error::from(error).name(), "InvalidArgument");
    assert!(composition::softmax(&x, 1, &Softmax::default().mask(&Mask::none())).is_ok());
    Ok(())
}

#[test]
fn norms() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let (weight, bias) = (tensor(&[48], DType::F32, 2.0, 2)?, tensor(&[48], dtype, 2.0, 3)?);
        for x in [
            tensor(&[2, 7, 48], dtype, 3.0, 1)?,
            tensor(&[1, 48], dtype, 1e-3, 1)?,
            Tensor::zeros((2, 48), dtype, CPU)?,
        ] {
            let what = format!("{:?} in {dtype:?}", x.dims());
            let error = 100.0 * unit(ours);
            let plain = RmsNorm::default();
            for options in [plain, plain.eps(0.0).weight_offset(1.0)] {
                for weight in [None, Some(&weight)] {
                    let want = guarded::rms_norm(&x, weight, &options)?;
                    assert_near(&what, ours, &composition::rms_norm(&x, weight, &options)?, &want, error, 0.0);
                }
            }
            // The kernel and the composition both round the normalised row, and then multiply it by the weight. The two
            // rounded rows may differ by one ULP.
            let llama = RmsNorm::default().rounding(Rounding::BeforeWeight);
            let want = guarded::rms_norm(&x, Some(&weight), &llama)?;
            let unit_before = if dtype == DType::F32 || dtype == DType::F64 { 0.0 } else { ours.limits().epsilon };
            let y = composition::rms_norm(&x, Some(&weight), &llama)?;
            assert_near(&what, ours, &y, &want, error + unit_before, 0.0);

            for (weight, bias) in
                [(None, None), (Some(&weight), None), (None, Some(&bias)), (Some(&weight), Some(&bias))]
            {
                let options = LayerNorm::default();
                let want = guarded::layer_norm(&x, weight, bias, &options)?;
                let y = composition::layer_norm(&x, weight, bias, &options)?;
                assert_near(&what, ours, &y, &want, error, 4.0 * error);
            }
        }
    }
    Ok(())
}

#[test]
fn norms_keep_squares_in_range() -> Result<()> {
    for (dtype, magnitude) in
        [(DType::F32, 1e20), (DType::F32, 3e38), (DType::F32, 1e-30), (DType::F64, 1e300), (DType::F64, 1e-300)]
    {
        let x = (tensor(&[1, 16], DType::F64, 1.0, 1)? * magnitude)?.to_dtype(dtype)?;
        let options = RmsNorm::default().eps(0.0);
        let want = flat(&guarded::rms_norm(&x, None, &options)?);
        let y = flat(&composition::rms_norm(&x, None, &options)?);
        assert_close(&format!("{magnitude:e}"), &y, &want, |i| 1e-5 * want[i].abs());
        let options = LayerNorm::default().eps(0.0);
        let want = flat(&guarded::layer_norm(&x, None, None, &options)?);
        let y = flat(&composition::layer_norm(&x, None, None, &options)?);
        assert_close(&format!("{magnitude:e}"), &y, &want, |_| 1e-5);
    }
    let x = Tensor::new(&[[1e6f32, 1e6 + 1., 1e6 + 2., 1e6 + 3.]], CPU)?;
    let want = flat(&guarded::layer_norm(&x, None, None, &LayerNorm::default())?);
    let y = flat(&composition::layer_norm(&x, None, None, &LayerNorm::default())?);
    assert_close("a small spread", &y, &want, |_| 1e-5);
    // In an rms_norm, an infinity becomes NaN and all other elements become zero.
    let x = Tensor::new(&[[f32::INFINITY, 1.0]], CPU)?;
    let y = flat(&composition::rms_norm(&x, None, &RmsNorm::default())?);
    assert!(y[0].is_nan() && y[1] == 0.0);
    Ok(())
}

/// Compares the kernels' gradients with the compositions' gradients. Devices without kernels use the compositions.
#[test]
fn gradients_of_norms() -> Result<()> {
    let eps = 1e-3;
    for (dtype, ours) in [(DType::F64, evenkeel::DType::F64), (DType::F32, evenkeel::DType::F32)] {
        let values = |count: usize, seed: usize| (0..count).map(move |i| ((i * 37 + seed) % 23) as f64 / 7.0 - 1.5);
        let tensor = |dims: &[usize], seed| {
            Tensor::from_iter(values(dims.iter().product(), seed), CPU)?.reshape(dims)?.to_dtype(dtype)
        };
        let variable = |dims: &[usize], seed| Var::from_tensor(&tensor(dims, seed)?);
        let (x, weight, bias) = (variable(&[3, 2, 6], 1)?, variable(&[6], 2)?, variable(&[6], 3)?);
        let grad = tensor(&[3, 2, 6], 4)?;
        let rms = guarded::rms_norm(&x, Some(&weight), &RmsNorm::default().eps(eps))?;
        let layer = guarded::layer_norm(&x, Some(&weight), Some(&bias), &LayerNorm::default().eps(eps))?;
        for (y, args) in [(rms, vec![&x, &weight]), (layer, vec![&x, &weight, &bias])] {
            let store = (y * &grad)?.sum_all()?.backward()?;
            let kind = if args.len() == 3 { NormKind::layer(eps) } else { NormKind::rms(eps) };
            let tensors: Vec<&Tensor> = args.iter().map(|arg| arg.as_tensor()).collect();
            let composed = composition::norm_gradients(kind, &tensors, Some(&weight), &grad)?;
            assert_eq!(composed.len(), args.len());
            for (arg, composed) in args.iter().zip(&composed) {
                let (composed, want) = (composed.as_ref().unwrap(), store.get(arg).unwrap());
                let bound = if dtype == DType::F64 { 1e-14 } else { 1e-5 };
                assert_near(&format!("{kind:?} in {dtype:?}"), ours, composed, want, 0.0, bound);
            }
        }
    }
    Ok(())
}

#[test]
fn groups_and_unit_lanes() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let (weight, bias) = (tensor(&[6], DType::F32, 2.0, 2)?, tensor(&[6], dtype, 2.0, 3)?);
        let error = 100.0 * unit(ours);
        for x in [tensor(&[2, 6, 5, 4], dtype, 3.0, 1)?, tensor(&[3, 6], dtype, 3.0, 1)?] {
            for groups in [1, 3] {
                let options = GroupNorm::new(groups);
                for (weight, bias) in
                    [(None, None), (Some(&weight), None), (None, Some(&bias)), (Some(&weight), Some(&bias))]
                {
                    let want = guarded::group_norm(&x, weight, bias, &options)?;
                    let y = composition::group_norm(&x, weight, bias, &options)?;
                    assert_near("group_norm", ours, &y, &want, error, 4.0 * error);
                }
            }
            for (axis, eps) in [(0, 1e-12), (1, 0.0), (1, 4.0)] {
                let options = L2Normalize::default().eps(eps);
                let want = guarded::l2_normalize(&x, axis, &options)?;
                assert_near("l2_normalize", ours, &composition::l2_normalize(&x, axis, &options)?, &want, error, 0.0);
            }
        }
        // Tests zeros, and magnitudes whose sums of squares overflow or underflow. Each is tested with every eps.
        let largest = ours.limits().max;
        for magnitude in [0.0, largest, largest.sqrt(), ours.limits().min_normal] {
            let x = (tensor(&[4, 16], DType::F64, 1.0, 1)? * magnitude)?.to_dtype(dtype)?;
            for eps in [0.0, 1e-300, 1e-12, 1.0] {
                let options = L2Normalize::default().eps(eps);
                let want = guarded::l2_normalize(&x, 1, &options)?;
                let y = composition::l2_normalize(&x, 1, &options)?;
                // In f32, an eps of 1e-300 becomes 0. With an eps of 1, the smallest inputs give subnormal results,
                // which have fewer digits and need an absolute tolerance.
                assert_near(
                    &format!("{magnitude:e}, {eps:e}, {dtype:?}"),
                    ours,
                    &y,
                    &want,
                    error,
                    ours.limits().min_normal,
                );
                let x = candle_core::Var::from_tensor(&x)?;
                let grads = composition::l2_normalize(&x, 1, &options)?.sqr()?.backward()?;
                assert!(
                    flat(grads.get(&x).unwrap()).iter().all(|g| g.is_finite()),
                    "l2_normalize of {magnitude:e} in {dtype:?}, eps {eps:e}: expected finite gradients, got {:?}",
                    flat(grads.get(&x).unwrap())
                );
            }
        }
    }
    let refused = composition::group_norm(&tensor(&[2, 6], DType::F32, 1.0, 1)?, None, None, &GroupNorm::new(4));
    assert_eq!(evenkeel::Error::from(refused.unwrap_err()).name(), "ShapeMismatch");
    Ok(())
}

#[test]
fn sums_of_many_large_squares() -> Result<()> {
    let x = (tensor(&[2, 5000], DType::F64, 1.0, 1)? * 1e18)?.to_dtype(DType::F32)?;
    let want = flat(&guarded::rms_norm(&x, None, &RmsNorm::default())?);
    let y = flat(&composition::rms_norm(&x, None, &RmsNorm::default())?);
    assert_close("rms_norm", &y, &want, |i| 1e-4 * want[i].abs());
    let want = flat(&guarded::l2_normalize(&x, 1, &L2Normalize::default())?);
    let y = flat(&composition::l2_normalize(&x, 1, &L2Normalize::default())?);
    assert_close("l2_normalize", &y, &want, |i| 1e-4 * want[i].abs());
    Ok(())
}

#[test]
fn pairs_and_clamped_elements() -> Result<()> {
    let inf = f32::INFINITY;
    let special = [0f32, -0., 1., -1., 30., -30., 1e30, 1e-30, -inf, inf, f32::NAN];
    let each: Vec<f32> = special.iter().flat_map(|a| [*a; 11]).collect();
    let other: Vec<f32> = special.iter().cycle().take(121).copied().collect();
    for (dtype, ours) in DTYPES {
        let error = 8.0 * unit(ours);
        let special = |values: &[f32]| Tensor::new(values, CPU)?.to_dtype(dtype);
        for (a, b) in
            [(tensor(&[300], dtype, 20.0, 1)?, tensor(&[300], dtype, 20.0, 2)?), (special(&each)?, special(&other)?)]
        {
            for options in [SafeDiv::default(), SafeDiv::default().eps(0.0), SafeDiv::default().eps(2.0)] {
                let want = guarded::safe_div(&a, &b, &options)?;
                assert_near("safe_div", ours, &composition::safe_div(&a, &b, &options)?, &want, error, 0.0);
            }
            let want = guarded::swiglu(&a, &b)?;
            assert_near("swiglu", ours, &composition::swiglu(&a, &b)?, &want, error, 0.0);
            let want = guarded::log_add_exp(&a, &b)?;
            // A result is the larger input plus a logarithm. These two terms may cancel.
            assert_near("log_add_exp", ours, &composition::log_add_exp(&a, &b)?, &want, error, 30.0 * error);
            for options in [ClampedExp::default(), ClampedExp::default().min(-2.0).max(3.0)] {
                let want = guarded::clamped_exp(&a, &options)?;
                // The relative error of an exponential grows with the exponent.
                assert_near("clamped_exp", ours, &composition::clamped_exp(&a, &options)?, &want, error, 0.0);
            }
            for options in [ClampedLog::default(), ClampedLog::default().floor(0.5), ClampedLog::default().floor(1e-60)]
            {
                let want = guarded::clamped_log(&a, &options)?;
                assert_near("clamped_log", ours, &composition::clamped_log(&a, &options)?, &want, error, error);
            }
        }
    }
    Ok(())
}

#[test]
fn norms_with_a_residual() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let (x, residual) = (tensor(&[3, 32], dtype, 3.0, 1)?, tensor(&[3, 32], dtype, 3.0, 2)?);
        let want = guarded::rms_norm_residual(&x, &residual, None, &RmsNorm::default())?;
        let y = composition::rms_norm_residual(&x, &residual, None, &RmsNorm::default())?;
        assert_near("norm", ours, &y.0, &want.0, 100.0 * unit(ours), 0.0);
        assert_near("sum", ours, &y.1, &want.1, 0.0, 0.0);
    }
    Ok(())
}

#[test]
fn norms_with_linear_layers() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let (x, matrix) = (tensor(&[2, 3, 6], dtype, 3.0, 1)?, tensor(&[4, 6], dtype, 1.0, 2)?);
        let (weight, bias) = (tensor(&[6], dtype, 2.0, 3)?, tensor(&[4], dtype, 1.0, 4)?);
        for rounded in [false, true] {
            let options = RmsNormLinear::default().rounded(rounded);
            let want = guarded::rms_norm_linear(&x, &matrix, Some(&weight), Some(&bias), &options)?;
            let y = composition::rms_norm_linear(&x, &matrix, Some(&weight), Some(&bias), &options)?;
            assert_near("rms_norm_linear", ours, &y, &want, 0.0, 60.0 * unit(ours));
        }
    }
    Ok(())
}

#[test]
fn rotary_embedding() -> Result<()> {
    for (dtype, ours) in DTYPES {
        for interleaved in [false, true] {
            let table = RopeTable::new(&[0, 1, 5, 1000], 6, &Rope::default().interleaved(interleaved)).unwrap();
            let x = tensor(&[2, 3, 4, 6], dtype, 3.0, 1)?;
            let want = guarded::rope(&x, &table)?;
            assert_near("rope", ours, &composition::rope(&x, &table)?, &want, 0.0, 8.0 * unit(ours));
            let (weight, options) = (tensor(&[6], dtype, 2.0, 2)?, RmsNorm::default());
            let want = guarded::qk_norm_rope(&x, Some(&weight), &table, &options)?;
            let y = composition::qk_norm_rope(&x, Some(&weight), &table, &options)?;
            assert_near("qk_norm_rope", ours, &y, &want, 0.0, 30.0 * unit(ours));
            let wrong = composition::rope(&tensor(&[3, 6], dtype, 1.0, 1)?, &table).unwrap_err();
            assert_eq!(evenkeel::Error::from(wrong).name(), "ShapeMismatch");
        }
    }
    Ok(())
}

type Form = fn(&Tensor) -> Result<Tensor>;
type Guarded = fn(&Tensor) -> evenkeel::Result<Tensor>;

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {
        fn elementwise() -> Vec<(&'static str, Form, Guarded)> {
            vec![$((stringify!($name), composition::$name, guarded::$name),)*]
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

#[test]
fn single_elements() -> Result<()> {
    let ops = elementwise();
    let inf = f32::INFINITY;
    let special = Tensor::new(&[0f32, -0., 1., -1., 30., -30., -inf, inf, f32::NAN], CPU)?;
    for (dtype, ours) in DTYPES {
        for x in [tensor(&[300], dtype, 20.0, 1)?, special.to_dtype(dtype)?] {
            for &(op, composed, kernel) in &ops {
                // The bound `error` covers the rounding of an exponent and the rounding of a division.
                let error = 8.0 * unit(ours);
                // gelu adds 1 to a number that may be close to -1. gelu_tanh also computes a cube, which is rounded.
                // Both ops therefore need an absolute tolerance.
                let absolute = if op.starts_with("gelu") { 4.0 * error } else { 0.0 };
                assert_near(op, ours, &composed(&x)?, &kernel(&x)?, error, absolute);
            }
        }
    }
    Ok(())
}

#[test]
fn empty_tensors() -> Result<()> {
    for dims in [&[0][..], &[3, 0], &[0, 4], &[2, 0, 4]] {
        let x = Tensor::zeros(dims, DType::BF16, CPU)?;
        let weight = Tensor::zeros(dims[dims.len() - 1], DType::BF16, CPU)?;
        for axis in 0..dims.len() {
            let options = Softmax::default().scale(0.5);
            assert_eq!(composition::softmax(&x, axis, &options)?.dims(), dims);
            assert_eq!(composition::log_softmax(&x, axis, &options)?.dims(), dims);
            let lse = composition::logsumexp(&x, axis, &options)?;
            assert_same(&format!("{dims:?} along {axis}"), &lse, &guarded::logsumexp(&x, axis, true, &options)?);
        }
        assert_eq!(composition::rms_norm(&x, Some(&weight), &RmsNorm::default())?.dims(), dims);
        assert_eq!(composition::layer_norm(&x, Some(&weight), None, &LayerNorm::default())?.dims(), dims);
        assert_eq!(composition::rms_norm_residual(&x, &x, None, &RmsNorm::default())?.0.dims(), dims);
        assert_eq!(composition::silu(&x)?.dims(), dims);
        assert_eq!(composition::sigmoid(&x)?.dims(), dims);
    }
    for dims in [[0, 2, 3, 4], [2, 3, 0, 4], [2, 3, 5, 0]] {
        let [_, _, positions, cols] = dims;
        let (x, table) =
            (Tensor::zeros(&dims, DType::F32, CPU)?, Tensor::zeros((positions, cols / 2), DType::F32, CPU)?);
        for interleaved in [false, true] {
            assert_eq!(composition::rotated(&x, &table, &table, interleaved)?.dims(), dims);
        }
    }
    Ok(())
}
