//! Compares Crane's former sampler with Evenkeel's: the time of a draw, and the tokens per second of SmolLM2-135M.
//!
//! usage: speed [CHECKPOINT], where CHECKPOINT is a GGUF file of Llama's architecture. Without a checkpoint, the
//! program only times draws, from random logits.

use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{D, Device, Tensor};
use candle_transformers::generation::LogitsProcessor;
use crane_core::models::minicpm5::modeling::MiniCpm5Model;
use crane_core::utils::tokenizer_utils::build_tokenizer_from_gguf;

/// Declares modules by a macro, because rustfmt would look for the files of ordinary modules in this folder, where they
/// don't exist.
macro_rules! files {
    ($($file:ident),*) => {
        $(#[allow(dead_code, unexpected_cfgs)] pub mod $file;)*
        /// Type of the messages that a sequence sends to its client. No messages are sent here.
        pub enum EngineResponse {}
    };
}

/// Crane's own sampler.
mod former {
    files!(sampling, sequence);
}

/// Crane's sampler after it was changed to use Evenkeel.
mod changed {
    files!(guarded, sampling, sequence);
}

const PROMPT: &str = "The sea was calm, and the captain";

/// Crane's own sampler calls this function.
fn is_gpu_device(_: &Device) -> bool {
    false
}

/// Parameters of a request.
#[derive(Clone, Copy)]
struct Parameters {
    name: &'static str,
    temperature: f64,
    top_k: usize,
    top_p: f64,
}

const PARAMETERS: [Parameters; 5] = [
    Parameters { name: "greedy", temperature: 0.0, top_k: 0, top_p: 1.0 },
    Parameters { name: "all tokens", temperature: 0.8, top_k: 0, top_p: 1.0 },
    Parameters { name: "top-p 0.95", temperature: 0.8, top_k: 0, top_p: 0.95 },
    Parameters { name: "top-k 40", temperature: 0.8, top_k: 40, top_p: 1.0 },
    Parameters { name: "top-k 40, top-p 0.95", temperature: 0.8, top_k: 40, top_p: 0.95 },
];

/// Defines a function that returns a sequence for the old or for the new sampler.
macro_rules! request {
    ($name:ident, $module:ident, $field:ident: $value:expr) => {
        fn $name(p: Parameters) -> $module::sequence::Sequence {
            $module::sequence::Sequence {
                id: String::new(),
                status: $module::sequence::SequenceStatus::Running,
                tokens: vec![],
                prompt_len: 0,
                kv_caches: vec![],
                $field: $value(p),
                temperature: Some(p.temperature),
                top_p: Some(p.top_p),
                top_k: Some(p.top_k),
                max_tokens: usize::MAX,
                eos_token_id: vec![],
                repetition_penalty: 1.0,
                frequency_penalty: 0.0,
                presence_penalty: 0.0,
                repeat_last_n: 64,
                response_tx: tokio::sync::mpsc::unbounded_channel().0,
            }
        }
    };
}

request!(old_request, former, logits_processor: |p: Parameters| LogitsProcessor::new(
    1,
    Some(p.temperature),
    Some(p.top_p)
));
request!(new_request, changed, seed: |_| 1);

/// Model, and the tokens of its prompt.
struct Model {
    layers: MiniCpm5Model,
    prompt: Vec<u32>,
}

impl Model {
    fn read(path: &str) -> Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let mut content = Content::read(&mut file)?;
        // The file does not state the head dimension. Without it, Crane would assume 128.
        content.metadata.insert("llama.attention.key_length".into(), Value::U32(64));
        let tokenizer = build_tokenizer_from_gguf(&content)?;
        let prompt = tokenizer.encode(PROMPT, true).map_err(anyhow::Error::msg)?.get_ids().to_vec();
        Ok(Model { layers: MiniCpm5Model::from_gguf(content, &mut file, &Device::Cpu)?, prompt })
    }

    fn step(&mut self, tokens: &[u32], position: usize) -> Result<Tensor> {
        Ok(self.layers.forward(&Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?, position)?)
    }
}

fn main() -> Result<()> {
    let mut model = std::env::args().nth(1).map(|path| Model::read(&path)).transpose()?;
    // Crane runs its steps in this thread pool too.
    Device::Cpu.with_context(|| -> Result<()> {
        let logits = match &mut model {
            Some(model) => model.step(&model.prompt.clone(), 0)?,
            None => Tensor::randn(0f32, 3.0, (1, 1, 49_152), &Device::Cpu)?,
        };
        println!("time of a draw from {} logits in microseconds, the shortest of 300 draws:", logits.dim(D::Minus1)?);
        for parameters in PARAMETERS {
            let (old, new) = draws(parameters, &logits)?;
            println!(
                "{:22}old {:7.1}, new {:7.1}, ratio {:.1}",
                parameters.name,
                micros(old),
                micros(new),
                micros(old) / micros(new)
            );
        }
        match &mut model {
            Some(model) => texts(model),
            None => Ok(()),
        }
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Returns the shortest time of a draw with the old sampler, and with the new sampler. The two samplers draw in turns.
fn draws(parameters: Parameters, logits: &Tensor) -> Result<(Duration, Duration)> {
    let (mut old, mut new) = (old_request(parameters), new_request(parameters));
    let mut buffers = former::sampling::SamplingBuffers::new();
    let mut least = (Duration::MAX, Duration::MAX);
    for _ in 0..300 {
        let start = Instant::now();
        former::sampling::sample("", &mut old, logits, &mut buffers)?;
        least.0 = least.0.min(start.elapsed());
        let start = Instant::now();
        changed::sampling::sample("", &mut new, logits)?;
        least.1 = least.1.min(start.elapsed());
    }
    Ok(least)
}

/// Generates texts of 17 tokens with the server's default parameters. Prints the highest number of tokens per second
/// for each sampler.
fn texts(model: &mut Model) -> Result<()> {
    let parameters = PARAMETERS[4];
    let (mut old_rate, mut new_rate) = (0f64, 0f64);
    for _ in 0..3 {
        let (mut sequence, mut buffers) = (old_request(parameters), former::sampling::SamplingBuffers::new());
        let rate = text(model, |logits| former::sampling::sample("", &mut sequence, logits, &mut buffers))?;
        old_rate = old_rate.max(rate);
        let mut sequence = new_request(parameters);
        let rate = text(model, |logits| {
            let token = changed::sampling::sample("", &mut sequence, logits)?;
            sequence.tokens.push(token);
            Ok(token)
        })?;
        new_rate = new_rate.max(rate);
    }
    println!("tokens per second, maximum of 3: old {old_rate:.1}, new {new_rate:.1}, ratio {:.3}", new_rate / old_rate);
    Ok(())
}

/// Generates a text, and returns the tokens per second.
fn text(model: &mut Model, mut sample: impl FnMut(&Tensor) -> Result<u32>) -> Result<f64> {
    model.layers.clear_kv_cache();
    let mut input = model.prompt.clone();
    let mut position = 0;
    let mut start = Instant::now();
    for step in 0..17 {
        let logits = model.step(&input, position)?;
        position += input.len();
        let token = sample(&logits)?;
        // The first step also reads the prompt, so it is not timed.
        if step == 0 {
            start = Instant::now();
        }
        input = vec![token];
    }
    Ok(16.0 / start.elapsed().as_secs_f64())
}
