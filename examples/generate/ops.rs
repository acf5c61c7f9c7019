//! The ops that scenes compute in other ways than Evenkeel's, to show what comes of it.

use anyhow::Result;
use candle_core::Tensor;
use evenkeel::candle::guarded;
use evenkeel::{Attention, Mask, RmsNorm, RopeTable};

/// Ops of a model.
pub trait Ops {
    /// Attention of queries `[batch, heads, queries, features]` over keys and values of as many heads or fewer: a query
    /// sees the keys up to its own position, and of these only what is visible.
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor>;

    /// Root-mean-square normalisation of rows.
    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor>;

    /// That of queries or keys, turned by their places.
    fn norm_rope(x: &Tensor, weight: &Tensor, table: &RopeTable, eps: f64) -> Result<Tensor> {
        Ok(guarded::rope(&Self::rms_norm(x, weight, eps)?, table)?)
    }
}

/// What a query sees beside causality.
#[derive(Clone, Copy)]
pub struct Visible<'a> {
    /// Not the keys that this, `[batch, keys]`, has 0 for.
    pub keep: Option<&'a [u8]>,
    /// Only as many keys, up to its own.
    pub window: Option<usize>,
}

/// Evenkeel's.
pub struct Evenkeel;

impl Ops for Evenkeel {
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor> {
        let (batch, _, count, _) = keys.dims4()?;
        let mut mask = Mask::causal();
        if let Some(keep) = visible.keep {
            mask = mask.and_keep(keep, &[batch, 1, 1, count]);
        }
        if let Some(window) = visible.window {
            mask = mask.and_window(window);
        }
        Ok(guarded::attention(query, keys, values, &Attention::default().mask(&mask))?)
    }

    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        Ok(guarded::rms_norm(x, Some(weight), &RmsNorm::default().eps(eps))?)
    }

    fn norm_rope(x: &Tensor, weight: &Tensor, table: &RopeTable, eps: f64) -> Result<Tensor> {
        Ok(guarded::qk_norm_rope(x, Some(weight), table, &RmsNorm::default().eps(eps))?)
    }
}
