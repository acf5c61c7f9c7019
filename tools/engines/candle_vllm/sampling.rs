//! Package of candle-vllm's own modules for sampling. Other types of the engine, whose values these modules only pass
//! on, are replaced by stubs.

use candle_core as candle;

pub mod openai {
    pub mod logits_processor;
    pub mod sampling_params;

    pub mod multimodal {
        #[derive(Clone)]
        pub struct ImageData;
    }

    pub mod pipelines {
        use std::collections::HashMap;

        pub trait DecodeStreamTrait: Send + Sync {
            fn step(&mut self, id: u32) -> Option<String>;
        }

        pub struct StreamWithTokenizer {
            _tokenizer: Box<pipeline::Tokenizer>,
            stream: pipeline::Stream,
        }

        impl DecodeStreamTrait for StreamWithTokenizer {
            fn step(&mut self, id: u32) -> Option<String> {
                Some(self.stream.text(id))
            }
        }

        pub type StreamDecoderMap = HashMap<usize, Box<dyn DecodeStreamTrait + Send + Sync>>;
        pub type TokenOrFinishReason = either::Either<super::sampling_params::Logprobs, String>;

        #[allow(unused_imports, reason = "they are imports of the whole file")]
        pub mod pipeline {
            use super::TokenOrFinishReason;
            use crate::openai::logits_processor::{self, LogitsProcessor};
            use crate::openai::requests::StopTokens;
            use crate::openai::sampling_params::{Logprobs, TopLogprob};
            use crate::scheduler::sequence::{Sequence, SequenceGroup};
            use candle_core::{Result, Tensor};
            use either::Either::{Left, Right};
            use parking_lot::RwLock;
            use rayon::prelude::*;
            use std::collections::VecDeque;
            use std::sync::Arc;
            use tracing::warn;

            pub struct Regex;

            impl Regex {
                pub fn is_match(&self, _: &str) -> bool {
                    false
                }
            }

            #[derive(Default)]
            pub struct ToolConfig {
                start_token_str: String,
            }

            /// Tokenizer that decodes each token to its number.
            #[derive(Clone)]
            pub struct Tokenizer;

            pub struct Stream;

            impl Stream {
                pub fn text(&self, id: u32) -> String {
                    id.to_string()
                }
            }

            impl Tokenizer {
                pub fn decode_stream(&self, _: bool) -> Stream {
                    Stream
                }

                pub fn decode(&self, tokens: &[u32], _: bool) -> Result<String> {
                    Ok(format!("{tokens:?}"))
                }
            }

            pub struct DefaultPipeline {
                pub tokenizer: Tokenizer,
                pub logits_processor: LogitsProcessor,
                pub stop_token_ids: Vec<u32>,
                pub stream_decoders: RwLock<super::StreamDecoderMap>,
                pub tool_call_start_token_ids: Vec<u32>,
                pub tool_call_end_token_ids: Vec<u32>,
                pub json_end_token_id: Option<u32>,
                pub tool_call_regex: Regex,
                pub tool_config: ToolConfig,
            }

            impl DefaultPipeline {
                pub fn with_seed(seed: u64) -> Self {
                    DefaultPipeline {
                        tokenizer: Tokenizer,
                        logits_processor: LogitsProcessor::new(seed, None, None, None, None),
                        stop_token_ids: Vec::new(),
                        stream_decoders: Default::default(),
                        tool_call_start_token_ids: Vec::new(),
                        tool_call_end_token_ids: Vec::new(),
                        json_end_token_id: None,
                        tool_call_regex: Regex,
                        tool_config: ToolConfig::default(),
                    }
                }
            }

            include!(concat!(env!("OUT_DIR"), "/pipeline.rs"));
        }
    }

    pub mod requests {
        use serde::{Deserialize, Serialize};

        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum StopTokens {
            Multi(Vec<String>),
            Single(String),
        }

        pub struct EncodingFormat;
        pub struct EmbeddingType;
    }

    pub mod responses {
        #[derive(Debug)]
        pub struct APIError(pub String);

        impl APIError {
            pub fn new(text: String) -> Self {
                APIError(text)
            }

            pub fn new_str(text: &str) -> Self {
                APIError(text.to_string())
            }
        }
    }

    pub mod streaming {
        pub struct ChatResponse;
    }

    pub struct ToolChoiceKind;
}

pub mod scheduler {
    pub mod block_engine {
        include!(concat!(env!("OUT_DIR"), "/block_engine.rs"));
    }

    pub mod sequence;
}

pub mod tools {
    pub struct Tool;
    pub struct ToolCall;

    pub mod stream_parser {
        pub struct StreamToolParser;
    }
}
