//! Compares the times of Evenkeel's ops with those of compositions of candle's ops, which text-embeddings-inference
//! used before.
//!
//! The sizes are those of a batch of 4 sequences of 128 tokens in a model of 12 heads and 384 features. Run the test
//! with `cargo test -p text-embeddings-backend-candle --test times -- --ignored --nocapture`.

use candle::{D, DType, Device, Result, Tensor};
use evenkeel::candle::guarded;
use evenkeel::{Attention, LayerNorm, Mask, MeanPool, RmsNorm};
use std::time::{Duration, Instant};

const LENGTHS: [usize; 4] = [128, 75, 50, 25];

/// Prints the shortest time of each function. Calls alternate, so that other load on the machine affects both functions
/// equally.
fn compare(name: &str, dtype: DType, before: impl Fn() -> Result<Tensor>, after: impl Fn() -> Result<Tensor>) {
    let [mut least_before, mut least_after] = [Duration::MAX; 2];
    for _ in 0..300 {
        let start = Instant::now();
        before().unwrap();
        least_before = least_before.min(start.elapsed());
        let start = Instant::now();
        after().unwrap();
        least_after = least_after.min(start.elapsed());
    }
    let ratio = least_before.as_secs_f64() / least_after.as_secs_f64();
    let [before, after] = [least_before, least_after].map(|time| time.as_micros());
    println!("{name} {dtype:?}: {before} µs before, {after} µs after, ratio {ratio:.2}");
}

fn random(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Returns a bias `[4, 1, 1, 128]` that is 0 at the tokens of each sequence and -inf at the padding.
fn padding(dtype: DType) -> Tensor {
    let bias = LENGTHS.iter().flat_map(|&n| (0..128).map(move |i| if i < n { 0f32 } else { f32::NEG_INFINITY }));
    Tensor::from_iter(bias, &Device::Cpu).unwrap().reshape((4, 1, 1, 128)).unwrap().to_dtype(dtype).unwrap()
}

/// Computes the engine's norm: normalises in f32, and multiplies by the weight in the type of `x`.
fn norm(x: &Tensor, weight: &Tensor, centred: bool) -> Result<Tensor> {
    let mut wide = x.to_dtype(DType::F32)?;
    if centred {
        wide = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    }
    let deviation = (wide.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
    wide.broadcast_div(&deviation)?.to_dtype(x.dtype())?.broadcast_mul(weight)
}

#[test]
#[ignore = "prints times"]
fn times() {
    for dtype in [DType::F32, DType::F16] {
        let [q, k, v] = [(); 3].map(|()| random(&[4, 12, 128, 32], dtype));
        let bias = padding(dtype).broadcast_as((4, 12, 128, 128)).unwrap().contiguous().unwrap();
        let scale = 1.0 / 32f64.sqrt();
        let composed = || {
            let scores = ((q.matmul(&k.t()?)? * scale)? + &bias)?;
            candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
        };
        let fused = || {
            let mask = guarded::mask::bias(&bias.narrow(1, 0, 1)?)?;
            Ok(guarded::attention(&q, &k, &v, &Attention::default().scale(scale).mask(&mask))?)
        };
        compare("attention", dtype, composed, fused);

        let (x, residual) = (random(&[4, 128, 384], dtype), random(&[4, 128, 384], dtype));
        let weight = random(&[384], dtype);
        let composed = || norm(&(&x + &residual)?, &weight, false);
        let fused = || Ok(guarded::rms_norm_residual(&x, &residual, Some(&weight), &RmsNorm::default())?.0);
        compare("rms_norm of a sum", dtype, composed, fused);

        let composed = || norm(&(&x + &residual)?, &weight, true)?.broadcast_add(&weight);
        let options = LayerNorm::default();
        let fused = || Ok(guarded::layer_norm(&(&x + &residual)?, Some(&weight), Some(&weight), &options)?);
        compare("layer_norm of a sum", dtype, composed, fused);

        let keep = padding(dtype).exp().unwrap().reshape((4, 128, 1)).unwrap();
        let counts = Tensor::new(&LENGTHS.map(|n| n as f32), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let counts = counts.reshape((4, 1)).unwrap();
        let composed = || x.broadcast_mul(&keep)?.sum(1)?.broadcast_div(&counts);
        let mask = Mask::lengths(&LENGTHS);
        let fused = || Ok(guarded::mean_pool(&x, 1, &MeanPool::default().mask(&mask))?);
        compare("mean", dtype, composed, fused);
    }
}
