//! Tensors with known values in every layout, and comparisons that report differences.

use candle_core::{DType, Device, Result, Tensor};
use evenkeel::accuracy;

pub const CPU: &Device = &Device::Cpu;

/// Types that Evenkeel supports, in candle's and in Evenkeel's notation.
pub const DTYPES: [(DType, evenkeel::DType); 4] = [
    (DType::F64, evenkeel::DType::F64),
    (DType::F32, evenkeel::DType::F32),
    (DType::F16, evenkeel::DType::F16),
    (DType::BF16, evenkeel::DType::BF16),
];

/// Returns pseudo-random values between -scale and scale, the same on every run.
pub fn values(count: usize, scale: f64, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count).map(|_| (2.0 * next() - 1.0) * scale).collect()
}

/// Creates a contiguous tensor of pseudo-random values.
pub fn tensor(dims: &[usize], dtype: DType, scale: f64, seed: u64) -> Result<Tensor> {
    Tensor::from_vec(values(dims.iter().product(), scale, seed), dims, CPU)?.to_dtype(dtype)
}

/// Returns all elements in order, converted to f64 without rounding.
pub fn flat(xs: &Tensor) -> Vec<f64> {
    xs.to_dtype(DType::F64).and_then(|xs| xs.flatten_all()?.to_vec1()).unwrap()
}

/// Returns the tensor in several layouts, each with a name. In narrowed layouts, the storage around the elements
/// contains NaN.
pub fn layouts(xs: &Tensor) -> Result<Vec<(String, Tensor)>> {
    let mut all = vec![("contiguous".into(), xs.clone())];
    for axis in 0..xs.rank() {
        let mut dims = xs.dims().to_vec();
        dims[axis] = 2;
        let around = Tensor::full(f64::NAN, dims, CPU)?.to_dtype(xs.dtype())?;
        let wide = Tensor::cat(&[&around, xs, &around], axis)?;
        all.push((format!("narrowed along {axis}"), wide.narrow(axis, 2, xs.dims()[axis])?));
        for other in axis + 1..xs.rank() {
            let turned = xs.transpose(axis, other)?.contiguous()?.transpose(axis, other)?;
            all.push((format!("transposed {axis} {other}"), turned));
        }
    }
    let reversed: Vec<usize> = (0..xs.rank()).rev().collect();
    let turned = xs.permute(reversed.as_slice())?.contiguous()?.permute(reversed.as_slice())?;
    all.push(("all axes reversed".into(), turned));
    Ok(all)
}

/// Fails unless both tensors have the same bits, including the signs of zeros. Any NaN equals any NaN.
#[track_caller]
pub fn assert_same(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}: the result must have the shape of the expected tensor");
    assert_eq!(got.dtype(), want.dtype(), "{what}: the result must have the type of the expected tensor");
    for (i, (got, want)) in flat(got).into_iter().zip(flat(want)).enumerate() {
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        assert!(same, "{what}, element {i}: expected {want}, got {got}");
    }
}

/// Fails unless every element is within its tolerance.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}: expected {} elements, got {}", want.len(), got.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let close = got == want || (got - want).abs() <= tolerance(i) || (got.is_nan() && want.is_nan());
        assert!(close, "{what}, element {i}: expected {want} with an error of at most {}, got {got}", tolerance(i));
    }
}

/// Returns the error that the accuracy table allows for an op. The argument `of` is the larger of two magnitudes: the
/// magnitude of the result and the magnitude of its largest term.
pub fn allowed(op: &str, dtype: evenkeel::DType, of: f64) -> f64 {
    let bound = accuracy::bound(op, dtype).unwrap().ulps;
    bound * ulp(dtype, of)
}

pub fn ulp(dtype: evenkeel::DType, of: f64) -> f64 {
    let limits = dtype.limits();
    let power = 2f64.powi(of.abs().max(limits.min_normal).log2().floor() as i32);
    (power * limits.epsilon).max(limits.min_subnormal)
}
