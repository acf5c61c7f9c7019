//! Package of vllm.rs's own modules for sampling. Other types of the engine, whose values these modules only pass on,
//! are replaced by stubs.

#[macro_export]
macro_rules! log_info {
    ($($text:tt)*) => { { let _ = format!($($text)*); } };
}

#[macro_export]
macro_rules! log_warn {
    ($($text:tt)*) => { { let _ = format!($($text)*); } };
}

#[macro_export]
macro_rules! log_error {
    ($($text:tt)*) => { eprintln!($($text)*) };
}

pub mod core {
    pub mod sequence;

    #[allow(unused_imports, reason = "they are imports of the whole file")]
    pub mod runner {
        use crate::core::sequence::{DecodeSequence, Sequence, ToDecodeInput};
        use crate::utils::config::{GenerationConfig, SamplingParams};
        use crate::utils::guidance::{GuidanceState, ParserFactory};
        use crate::utils::logits_processor::*;
        use candle_core::{Device, Result, Tensor};
        use parking_lot::RwLock;
        use std::collections::{HashMap, HashSet, hash_map::Entry};
        use std::sync::Arc;
        use toktrie::SimpleVob;

        #[derive(Default)]
        pub struct Config {
            pub generation_cfg: Option<GenerationConfig>,
        }

        pub struct ModelRunner {
            pub config: Config,
            pub llg_factory: Option<Arc<ParserFactory>>,
            #[cfg(not(changed))]
            cached_sampling: RwLock<Option<CachedSamplingParams>>,
            #[allow(dead_code, reason = "only the unchanged engine uses it")]
            device: Device,
            #[allow(dead_code, reason = "only the unchanged engine uses it")]
            is_first_rank: bool,
            logit_processor: LogitsProcessor,
            seq_tokens: RwLock<HashMap<usize, Vec<u32>>>,
            guidance_states: RwLock<HashMap<usize, GuidanceState>>,
            guidance_failed: RwLock<HashSet<usize>>,
            guidance_mismatch: RwLock<HashSet<usize>>,
        }

        impl ModelRunner {
            pub fn with_seed(seed: u64) -> Self {
                ModelRunner {
                    config: Config::default(),
                    llg_factory: None,
                    #[cfg(not(changed))]
                    cached_sampling: Default::default(),
                    device: Device::Cpu,
                    #[cfg(not(changed))]
                    logit_processor: LogitsProcessor::new(seed, None, None, None),
                    #[cfg(changed)]
                    logit_processor: LogitsProcessor::new(seed, None),
                    seq_tokens: Default::default(),
                    guidance_states: Default::default(),
                    guidance_failed: Default::default(),
                    guidance_mismatch: Default::default(),
                    is_first_rank: true,
                }
            }
        }

        include!(concat!(env!("OUT_DIR"), "/runner.rs"));
    }

    pub mod scheduler {
        use crate::core::sequence::{Sequence, SequenceStatus};
        use candle_core::Result;
        use std::time::{SystemTime, UNIX_EPOCH};

        /// Stub that only records which sequences are freed.
        #[derive(Default)]
        pub struct BlockManager {
            pub freed: Vec<usize>,
        }

        impl BlockManager {
            fn try_send_kvcache(&self, _: &Sequence, _: u32) -> Result<bool> {
                Ok(false)
            }

            fn capture_mamba_prefix_state(&self, _: &Sequence, _: usize) {}

            fn cache_sequence(&self, _: &Sequence) {}

            fn deallocate(&mut self, sequence: &Sequence) {
                self.freed.push(sequence.id);
            }
        }

        pub struct Config {
            max_num_batched_tokens: usize,
            block_size: usize,
        }

        pub struct Scheduler {
            pub running: Vec<Sequence>,
            pub block_manager: BlockManager,
            eos_token_id: Vec<u32>,
            cfg: Config,
        }

        impl Scheduler {
            pub fn with(running: Vec<Sequence>) -> Self {
                let cfg = Config { max_num_batched_tokens: 1 << 20, block_size: 64 };
                Scheduler { running, block_manager: BlockManager::default(), eos_token_id: Vec::new(), cfg }
            }

            fn is_pd_server(&self) -> bool {
                false
            }

            fn is_tool_call_end(&self, _: u32, _: usize) -> bool {
                false
            }
        }

        include!(concat!(env!("OUT_DIR"), "/scheduler.rs"));
    }
}

pub mod transfer {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    pub struct PdConfig;
}

pub mod utils {
    pub mod config;
    pub mod logits_processor;

    pub mod guidance {
        use candle_core::Result;
        use llguidance::api::TopLevelGrammar;
        use std::sync::Arc;
        use toktrie::SimpleVob;

        /// Stub of the engine's parser. The field holds the tokens that every grammar allows.
        pub struct ParserFactory(pub SimpleVob);

        pub struct GuidanceState(Arc<ParserFactory>);

        impl GuidanceState {
            pub fn new_from_grammar(factory: Arc<ParserFactory>, _: &TopLevelGrammar) -> Result<Self> {
                Ok(GuidanceState(factory))
            }

            pub fn compute_mask_or_eos(&mut self) -> Result<SimpleVob> {
                Ok(self.0.0.clone())
            }

            pub fn commit_token(&mut self, _: u32) -> Result<()> {
                Ok(())
            }

            pub fn is_finished(&self) -> bool {
                false
            }
        }
    }

    pub mod image {
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        pub struct ImageData {
            pub image_idx: i32,
        }
    }

    pub mod reasoning {
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        pub struct ReasoningEffort;
    }
}
