//! Tests of the mean over tokens. The kernel must give the same bits as the slice functions. The composition of
//! candle's ops is also tested.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, layouts, tensor, ulp};
use candle_core::{DType, Result, Tensor, Var, WithDType};
use evenkeel::candle::{composition, guarded};
use evenkeel::{Element, Error, FullyMasked, Lanes, Mask, MeanPool, mean_pool, mean_pool_backward, report};

fn bits_of_slices<E: Element + WithDType>() -> Result<()> {
    let x = tensor(&[2, 3, 4], <E as WithDType>::DTYPE, 4.0, 1)?;
    let dy = tensor(&[2, 4], <E as WithDType>::DTYPE, 4.0, 2)?;
    let keep = [1u8, 0, 1];
    let (lengths, flags) = (Mask::lengths(&[3, 0]), Mask::keep(&keep, &[3]));
    let values = |xs: &Tensor| xs.flatten_all()?.to_vec1::<E>();
    for options in [MeanPool::default(), MeanPool::default().mask(&lengths), MeanPool::default().mask(&flags)] {
        let want = mean_pool(Lanes::shaped(&values(&x)?, &[2, 3, 4], 1)?, &options)?;
        let want = Tensor::from_vec(want, (2, 4), CPU)?;
        let dx = mean_pool_backward(&values(&dy)?, [2, 3, 4], &options)?;
        let dx = Tensor::from_vec(dx, (2, 3, 4), CPU)?;
        for (layout, x) in layouts(&x)? {
            assert_same(&layout, &guarded::mean_pool(&x, 1, &options)?, &want);
            // The transpose makes the gradient of y non-contiguous.
            let x = Var::from_tensor(&x)?;
            let y = (guarded::mean_pool(&x, 1, &options)?.t()? * dy.t()?)?;
            assert_same(&layout, y.backward()?.get(&x).unwrap(), &dx);
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

type Form = fn(&Tensor, usize, &MeanPool<'_>) -> evenkeel::Result<Tensor>;

const FORMS: [Form; 2] = [guarded::mean_pool, |x, dim, options| Ok(composition::mean_pool(x, dim, options)?)];

#[test]
fn masked_tokens_are_not_read() -> Result<()> {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let x = Tensor::new(&[[[1.0, nan], [3.0, 5.0], [nan, inf]], [[nan, nan], [inf, -inf], [nan, 1.0]]], CPU)?;
    let mask = Mask::lengths(&[2, 0]);
    let options = MeanPool::default().mask(&mask);
    for (dtype, _) in DTYPES {
        for form in FORMS {
            let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
            let y = form(&x, 1, &options)?;
            let values = flat(&y);
            assert!(
                values[0] == 2.0 && values[1].is_nan() && values[2..] == [0.0, 0.0],
                "mean_pool of lengths 2 and 0 in {dtype:?}: expected [2, NaN, 0, 0], got {values:?}"
            );
            let dx = flat(y.backward()?.get(&x).unwrap());
            assert_eq!(dx, [[0.5; 4].as_slice(), &[0.0; 8]].concat());
        }
    }
    let report = report::scope(|| guarded::mean_pool(&x, 1, &options)).1;
    assert_eq!((report.op("mean_pool").fully_masked, report.op("mean_pool").nan), (2, 1));
    Ok(())
}

#[test]
fn sums_that_the_type_does_not_hold() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let half = ours.limits().max / 2.0;
        let x = Tensor::full(half, (1, 100, 2), CPU)?.to_dtype(dtype)?;
        for form in FORMS {
            let y = flat(&form(&x, 1, &MeanPool::default())?);
            // The composition adds a hundred rounded terms.
            assert_close(&format!("{dtype:?}"), &y, &[half; 2], |_| 64.0 * ulp(ours, half));
        }
    }
    Ok(())
}

#[test]
fn other_axes_and_more_of_them_than_a_view_has() -> Result<()> {
    let x = tensor(&[2, 3, 4, 5], DType::F64, 2.0, 1)?;
    let (lengths, flags) = ([4usize, 1], Tensor::new(&[[1u8, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], CPU)?);
    let mask = guarded::mask::keep(&flags)?.and_lengths(&lengths);
    let options = MeanPool::default().mask(&mask);
    for form in FORMS {
        let want = x.mean(1)?;
        assert_close("plain", &flat(&form(&x, 1, &MeanPool::default())?), &flat(&want), |_| 1e-15);
        let y = form(&x, 2, &options)?;
        assert_eq!(y.dims(), [2, 3, 5]);
        let first = (x.get(0)?.get(0)?.get(0)? + x.get(0)?.get(0)?.get(2)? + x.get(0)?.get(0)?.get(3)?)?;
        assert_close("first", &flat(&y.get(0)?.get(0)?), &flat(&(first / 3.0)?), |_| 1e-15);
        assert_eq!(flat(&y.get(1)?.get(1)?), flat(&x.get(1)?.get(1)?.get(0)?));
        assert_eq!(flat(&y.get(1)?.get(2)?), [0.0; 5]);
        let one = form(&tensor(&[7], DType::F64, 2.0, 2)?, 0, &MeanPool::default())?;
        assert!(one.dims().is_empty());
    }
    let deep = x.reshape(vec![2, 1, 1, 1, 3, 1, 1, 4, 1, 5])?;
    let y = guarded::mean_pool(&deep, 7, &MeanPool::default())?;
    assert_same("deep", &y.reshape((2, 3, 5))?, &guarded::mean_pool(&x, 2, &MeanPool::default())?);
    for dims in [[0, 3, 4], [2, 0, 4], [2, 3, 0]] {
        let x = Tensor::zeros(&dims, DType::F32, CPU)?;
        for form in FORMS {
            assert_eq!(flat(&form(&x, 1, &MeanPool::default())?), vec![0.0; dims[0] * dims[2]]);
        }
    }
    Ok(())
}

#[test]
fn what_is_refused() -> Result<()> {
    let x = tensor(&[2, 3, 4], DType::F32, 1.0, 1)?;
    let lengths = [3usize, 0];
    let mask = Mask::lengths(&lengths);
    let (causal, long, short) = (Mask::causal(), Mask::lengths(&[4]), Mask::keep(&[1u8, 1], &[2]));
    let masked = MeanPool::default().mask(&mask);
    for form in FORMS {
        let refused = form(&x, 1, &masked.fully_masked(FullyMasked::Error)).unwrap_err();
        assert_eq!(refused, Error::fully_masked("mean_pool", 1));
        // If the tensor is a variable, candle records the op. The call must return the same error as for any other
        // tensor.
        let variable = Var::from_tensor(&x)?;
        assert_eq!(form(&variable, 1, &masked.fully_masked(FullyMasked::Error)).unwrap_err(), refused);
        let name = |options: &MeanPool<'_>| form(&x, 1, options).unwrap_err().name();
        assert_eq!(name(&masked.fully_masked(FullyMasked::Uniform)), "InvalidArgument");
        assert_eq!(name(&MeanPool::default().mask(&causal)), "InvalidArgument");
        assert_eq!(name(&MeanPool::default().mask(&long)), "InvalidArgument");
        assert_eq!(name(&MeanPool::default().mask(&short)), "ShapeMismatch");
        assert_eq!(form(&x, 3, &MeanPool::default()).unwrap_err().name(), "InvalidArgument");
    }
    let ints = Tensor::ones((2, 3, 4), DType::U32, CPU)?;
    assert_eq!(guarded::mean_pool(&ints, 1, &MeanPool::default()).unwrap_err().name(), "UnsupportedDType");
    Ok(())
}
