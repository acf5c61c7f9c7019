//! Arithmetic that fails: sums in the storage type, and a softmax without guards.

use half::{bf16, f16};
use std::ops::{Add, Div, Mul, Sub};

/// Number type of the naive arithmetic.
pub trait Number:
    Copy + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    fn round(value: f32) -> Self;
    fn widen(self) -> f32;
}

impl Number for f32 {
    fn round(value: f32) -> Self {
        value
    }
    fn widen(self) -> f32 {
        self
    }
}

macro_rules! half {
    ($($type:ident)*) => {$(
        impl Number for $type {
            fn round(value: f32) -> Self {
                $type::from_f32(value)
            }
            fn widen(self) -> f32 {
                self.to_f32()
            }
        }
    )*};
}
half!(f16 bf16);

/// Computes the softmax after subtracting the largest logit.
pub fn softmax<T: Number>(scores: &[T]) -> Vec<T> {
    let max = scores.iter().fold(T::round(f32::NEG_INFINITY), |max, &score| if score > max { score } else { max });
    let exps: Vec<T> = scores.iter().map(|&score| T::round((score - max).widen().exp())).collect();
    let sum = exps.iter().fold(T::round(0.0), |sum, &e| sum + e);
    exps.into_iter().map(|e| e / sum).collect()
}

/// Computes the RMS normalization of a row.
pub fn rms_norm<T: Number>(row: &[f32], weight: &[f32], eps: f64) -> Vec<f32> {
    let row: Vec<T> = row.iter().map(|&x| T::round(x)).collect();
    let sum = row.iter().fold(T::round(0.0), |sum, &x| sum + x * x);
    let mean = sum / T::round(row.len() as f32) + T::round(eps as f32);
    let rms = T::round(mean.widen().sqrt());
    row.iter().zip(weight).map(|(&x, &w)| (x / rms * T::round(w)).widen()).collect()
}

/// Computes the RMS normalization of a row in f32, but sums the squares in f16. `limit` is applied to each square and
/// to each partial sum.
pub fn rms_norm_by_f16_sum(row: &[f32], weight: &[f32], eps: f64, limit: fn(f16) -> f16) -> Vec<f32> {
    let sum = row.iter().fold(f16::ZERO, |sum, &x| limit(sum + limit(f16::from_f32(x * x))));
    let rms = (sum.to_f32() / row.len() as f32 + eps as f32).sqrt();
    row.iter().zip(weight).map(|(x, w)| x / rms * w).collect()
}

/// Returns the index of the largest logit, as greedy decoding finds it. A NaN never compares as larger, so token 0 wins
/// if all logits are NaN.
pub fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}
