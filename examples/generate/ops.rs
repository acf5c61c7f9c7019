//! Ops of a model. In the scenes that replay failures, faulty variants replace some ops.

use anyhow::Result;
use candle_core::Tensor;
use evenkeel::candle::guarded;
use evenkeel::{Attention, Mask, RmsNorm, RopeTable};

/// Ops of a model.
pub trait Ops {
    /// Computes the attention of queries `[batch, heads, queries, features]`. Keys and values may have fewer heads than
    /// the queries. A query attends to the keys up to its own position, unless `visible` excludes them.
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor>;

    /// Computes the RMS normalization of rows.
    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor>;

    /// Computes the RMS normalization of queries or keys, followed by the rotary embedding.
    fn norm_rope(x: &Tensor, weight: &Tensor, table: &RopeTable, eps: f64) -> Result<Tensor> {
        Ok(guarded::rope(&Self::rms_norm(x, weight, eps)?, table)?)
    }
}

/// Restrictions of attention in addition to causality.
#[derive(Clone, Copy)]
pub struct Visible<'a> {
    /// Flags, `[batch, keys]`, that are 0 for excluded keys.
    pub keep: Option<&'a [u8]>,
    /// Number of keys that a query attends to: the key at its own position, and the keys just before this position.
    pub window: Option<usize>,
}

/// Evenkeel's ops.
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
