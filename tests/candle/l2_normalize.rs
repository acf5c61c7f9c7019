//! Tests of l2_normalize and the clamped functions. Results must have the same bits as the results of the slice
//! functions. Gradients must be correct even where a naive formula fails.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, layouts, tensor};
use candle_core::{DType, Result, Tensor, Var, WithDType};
use evenkeel::candle::guarded;
use evenkeel::{ClampedExp, ClampedLog, Element, L2Normalize, Lanes, clamped_exp, clamped_log, l2_normalize};

fn bits_of_slices<E: Element + WithDType>() -> Result<()> {
    let x = tensor(&[2, 3, 4], <E as WithDType>::DTYPE, 4.0, 3)?;
    let data: Vec<E> = x.flatten_all()?.to_vec1()?;
    let given = |y: Vec<E>| Tensor::from_vec(y, x.shape(), CPU);
    for (layout, x) in layouts(&x)? {
        for axis in 0..3 {
            for options in [L2Normalize::default(), L2Normalize::default().eps(5.0)] {
                let want = l2_normalize(Lanes::shaped(&data, x.dims(), axis as isize)?, &options)?;
                assert_same(&layout, &guarded::l2_normalize(&x, axis, &options)?, &given(want)?);
            }
        }
        for options in [ClampedExp::default(), ClampedExp::default().min(-1.0).max(2.0)] {
            assert_same(&layout, &guarded::clamped_exp(&x, &options)?, &given(clamped_exp(&data, &options)?)?);
        }
        for options in [ClampedLog::default(), ClampedLog::default().floor(0.5)] {
            assert_same(&layout, &guarded::clamped_log(&x, &options)?, &given(clamped_log(&data, &options)?)?);
        }
    }
    Ok(())
}

#[test]
fn the_bits_of_slices() -> Result<()> {
    bits_of_slices::<f64>()?;
    bits_of_slices::<f32>()?;
    bits_of_slices::<half::f16>()?;
    bits_of_slices::<half::bf16>()
}

#[test]
fn hostile_rows_have_finite_gradients() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let largest = ours.limits().max;
        let rows = [
            [0.0, 0.0, 0.0],
            [largest, -largest, largest],
            [ours.limits().min_subnormal, 0.0, 0.0],
            [f64::NAN, 1.0, 2.0],
            [3.0, 0.0, -4.0],
        ];
        let x = Tensor::new(&rows, CPU)?.to_dtype(dtype)?;
        for eps in [0.0, 1e-12, 1.0] {
            for dy in [1.0, largest, -largest / 3.0] {
                let x = Var::from_tensor(&x)?;
                let y = guarded::l2_normalize(&x, 1, &L2Normalize::default().eps(eps))?;
                let grads = (y * dy)?.backward()?;
                let dx = flat(grads.get(&x).unwrap());
                let what = format!("{dtype:?}, eps {eps}, dy {dy}: {dx:?}");
                let (nan, finite) = (&dx[9..12], [&dx[..9], &dx[12..]].concat());
                assert!(
                    finite.iter().all(|v| v.is_finite()) && nan.iter().all(|v| v.is_nan()),
                    "gradient of l2_normalize, eps {eps}, dy {dy}: expected NaN in row 3 only, got {dx:?}"
                );
                // If eps is 0, a row of zeros has a gradient of 0. Otherwise, the gradient of such a row is dy / eps,
                // clamped to the range of the type.
                let of_zeros = if eps == 0.0 {
                    0.0
                } else {
                    (flat(&Tensor::new(&[dy], CPU)?.to_dtype(dtype)?)[0] / eps).clamp(-largest, largest)
                };
                assert_close(&what, &dx[..3], &[of_zeros; 3], |_| ours.limits().epsilon * of_zeros.abs());
            }
        }
    }
    Ok(())
}

#[test]
fn a_gradient_in_a_lane_of_its_own() -> Result<()> {
    // Normalises the same tensor along its first axis in two calls: directly, and through a transpose. Each call
    // contributes half of the gradient.
    let x = Var::from_tensor(&tensor(&[4, 3], DType::F64, 2.0, 1)?)?;
    let weight = tensor(&[4, 3], DType::F64, 1.0, 2)?;
    let first = (guarded::l2_normalize(&x, 0, &L2Normalize::default())? * &weight)?;
    let again = (guarded::l2_normalize(&x.t()?, 1, &L2Normalize::default())?.t()? * &weight)?;
    let dx = flat((first + again)?.backward()?.get(&x).unwrap());
    let (x, w) = (flat(&x), flat(&weight));
    for column in 0..3 {
        let at = |v: &[f64], row: usize| v[row * 3 + column];
        let norm = (0..4).map(|row| at(&x, row).powi(2)).sum::<f64>().sqrt();
        let along = (0..4).map(|row| at(&x, row) / norm * at(&w, row)).sum::<f64>();
        for row in 0..4 {
            let want = 2.0 * (at(&w, row) - at(&x, row) / norm * along) / norm;
            assert!(
                (at(&dx, row) - want).abs() < 1e-14,
                "gradient of l2_normalize at row {row}, column {column}: expected {want}, got {}",
                at(&dx, row)
            );
        }
    }
    Ok(())
}

#[test]
fn nothing_flows_from_beyond_a_clamp() -> Result<()> {
    let inf = f64::INFINITY;
    for (dtype, ours) in DTYPES {
        let x = Var::from_tensor(&Tensor::new(&[0.0, inf, -inf, 1e30, -1.0, f64::NAN, 1.0], CPU)?.to_dtype(dtype)?)?;
        let dx = flat(guarded::clamped_exp(&x, &ClampedExp::default().max(0.5))?.backward()?.get(&x).unwrap());
        assert_eq!(
            [&dx[..4], &dx[6..]].concat(),
            [1.0, 0.0, 0.0, 0.0, 0.0],
            "gradient of clamped_exp in {dtype:?}: it must be 1 at x = 0, and 0 at inf, at -inf and above the upper \
             limit"
        );
        let want = (-1f64).exp();
        assert!((dx[4] - want).abs() <= 0.51 * ours.limits().epsilon * want && dx[5].is_nan());
        let dx = flat(guarded::clamped_log(&x, &ClampedLog::default().floor(1.0))?.backward()?.get(&x).unwrap());
        assert_eq!(
            [&dx[..3], &dx[4..5], &dx[6..]].concat(),
            [0.0, 0.0, 0.0, 0.0, 1.0],
            "gradient of clamped_log in {dtype:?}: it must be 1 at x = 1. It must be 0 at inf, at -inf and below the \
             floor"
        );
        assert!(dx[3] < 1e-4 && dx[5].is_nan());
    }
    Ok(())
}

#[test]
fn options_and_shapes_that_do_not_fit() -> Result<()> {
    let x = tensor(&[2, 3], DType::F32, 1.0, 1)?;
    let name = |refused: evenkeel::Result<Tensor>| refused.unwrap_err().name();
    assert_eq!(name(guarded::l2_normalize(&x, 2, &L2Normalize::default())), "InvalidArgument");
    assert_eq!(name(guarded::l2_normalize(&x, 1, &L2Normalize::default().eps(f64::NAN))), "InvalidArgument");
    assert_eq!(name(guarded::clamped_exp(&x, &ClampedExp::default().min(1.0).max(0.0))), "InvalidArgument");
    assert_eq!(name(guarded::clamped_log(&x, &ClampedLog::default().floor(0.0))), "InvalidArgument");
    let ints = Tensor::ones((2, 3), DType::U32, CPU)?;
    assert_eq!(name(guarded::l2_normalize(&ints, 1, &L2Normalize::default())), "UnsupportedDType");
    assert_eq!(name(guarded::clamped_exp(&ints, &ClampedExp::default())), "UnsupportedDType");
    assert_eq!(name(guarded::clamped_log(&ints, &ClampedLog::default())), "UnsupportedDType");
    Ok(())
}
