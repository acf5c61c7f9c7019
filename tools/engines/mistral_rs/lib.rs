//! Package for the tests of mistral.rs. It contains the engine's files whose numerics change, without the rest of the
//! engine.
#![allow(dead_code, private_interfaces)]

// The engine's files name types of the package `mistralrs_quant`. These names refer to the types below.
extern crate self as mistralrs_quant;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Includes files of the engine as modules. This is a macro, because rustfmt would format the files of ordinary
/// modules.
macro_rules! engine {
    ($($visibility:vis $name:ident = $path:literal;)*) => { $(#[path = $path] $visibility mod $name;)* };
}

engine! {
    pub layers_masker = "../../mistralrs-core/src/layers_masker.rs";
    pub sampler = "../../mistralrs-core/src/sampler.rs";
    // The engine's own sampler, which the program `times` compares with the changed sampler. The commands in plan.toml
    // write this file.
    pub before = "before.rs";
}

#[path = "."]
pub mod gdn {
    engine! {
        pub backend = "../../mistralrs-core/src/gdn/backend.rs";
        pub cache = "../../mistralrs-core/src/gdn/cache.rs";
        pub config = "../../mistralrs-core/src/gdn/config.rs";
    }
}

pub mod granite {
    use candle_core::{Result, Tensor};
    // The commands in plan.toml copy this function from `models/granite.rs`. That module itself needs the whole engine.
    include!("granite.rs");
}

/// The engine's attention on the CPU, and the types that it imports from its parent module.
#[path = "."]
pub mod attention {
    use candle_core::{Result, Tensor};

    engine!(cpu = "../../mistralrs-core/src/attention/backends/cpu/mod.rs";);
    pub(crate) use cpu::fast_exp;

    #[derive(Clone, Debug)]
    pub enum AttentionMask {
        None,
        CausalFlash,
        Custom(Tensor),
    }

    pub struct SdpaParams {
        pub n_kv_groups: usize,
        pub softcap: Option<f32>,
        pub softmax_scale: f32,
        pub sliding_window: Option<usize>,
        pub sinks: Option<Tensor>,
    }

    /// Computes attention in f16. The axes of the tensors are batch, token, head and feature.
    pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let params =
            SdpaParams { n_kv_groups: 1, softcap: None, softmax_scale: 1.0, sliding_window: None, sinks: None };
        cpu::run_flash_attn_cpu::<half::f16>(q, k, v, Some(mask), &params)
    }
}

// The items below are stubs for other types of the engine, whose values the tests do not use.

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct QuantizedConfig;

pub const fn using_flash_attn() -> bool {
    false
}

pub mod pipeline {
    pub struct KvCache;

    impl KvCache {
        pub fn current_seq_len(&self) -> usize {
            0
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum RecurrentBatchKind {
        Prefill,
        Decode,
        SpeculativeDecode,
    }
}

pub mod kv_cache {
    use super::{Device, Result, Tensor};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum RecurrentStateLayout {
        Opaque,
        GdnKeyMajor,
        GdnValueMajor,
    }

    pub struct RecurrentStatePool {
        pub conv_state: Tensor,
        pub recurrent_state: Tensor,
    }

    impl RecurrentStatePool {
        pub fn device(&self) -> &Device {
            &Device::Cpu
        }

        pub fn state_layout(&self) -> RecurrentStateLayout {
            RecurrentStateLayout::GdnKeyMajor
        }

        pub fn gather_conv_state(&self, _: &Tensor) -> Result<Tensor> {
            candle_core::bail!("no pool")
        }

        pub fn gather_recurrent_state(&self, _: &Tensor) -> Result<Tensor> {
            candle_core::bail!("no pool")
        }

        pub fn scatter_conv_state_with_host_indices(
            &mut self,
            _: &Tensor,
            _: Option<&[u32]>,
            _: &Tensor,
        ) -> Result<()> {
            candle_core::bail!("no pool")
        }

        pub fn scatter_recurrent_state_with_host_indices(
            &mut self,
            _: &Tensor,
            _: Option<&[u32]>,
            _: &Tensor,
        ) -> Result<()> {
            candle_core::bail!("no pool")
        }
    }
}

#[cfg(test)]
mod defects;
