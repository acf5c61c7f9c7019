//! Monitored run in any type, of any length, with or without guards.

use crate::arguments::{Arguments, Dtype};
use crate::corpus;
use crate::cost;
use crate::decoder::Decoder;
use crate::generated::Generator;
use crate::merges;
use crate::ops;
use crate::picture;
use crate::progress::Progress;
use crate::tiny::Description;
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer, ParamsAdamW};
use evenkeel::candle::optim::AdamW;
use evenkeel::candle::train::{StableStep, Stepped, save};
use evenkeel::train::{Jsonl, LossScaler, LossScalerState, Monitor, Step, TensorBoard, precision};
use evenkeel::{ClipGradNorm, Error};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Sizes of a small model, whose training steps take a few milliseconds each.
const LAYERS: usize = 2;
const HIDDEN: usize = 32;
const HEADS: usize = 2;
const FEED_FORWARD: usize = 64;
const MERGES: usize = 128;
const WINDOW: usize = 16;

const LEARNING_RATE: f64 = 3e-3;
/// Learning rate of runs without guards. It is constant, and ten times the largest rate of guarded runs.
const CARELESS_RATE: f64 = 3e-2;
const WARM_UP: u64 = 100;
const MAX_NORM: f64 = 1.0;
/// Number of steps between records of the layers.
const LAYERS_EVERY: u64 = 500;
/// Number of steps between lines of the log.
const LINES_EVERY: u64 = 20;
/// Number of steps, at the end of a run, over which the printed loss is averaged.
const LAST: usize = 200;

/// Returns the learning rate: a linear warm-up, then decay with the inverse square root. It does not depend on the
/// length of the run, so a run can be extended.
fn learning_rate(number: u64) -> f64 {
    let (number, up) = ((number + 1) as f64, WARM_UP as f64);
    LEARNING_RATE * (number / up).min((up / number).sqrt())
}

/// Runs the training and prints a summary. Returns false if the loss became non-finite.
pub fn run(arguments: &Arguments, folder: &Path) -> Result<bool> {
    let watched = &arguments.watched;
    let log = folder.join("run.jsonl");
    if !watched.resume && log.exists() {
        bail!("{} exists already; use `--resume` to continue its run", log.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("can't write {}", folder.display()))?;
    let mut task = Task::new(arguments, folder)?;
    if watched.cost {
        cost::measure(&task)?;
        return Ok(true);
    }
    let held = if watched.no_guards { task.careless() } else { task.guarded() };
    // Draws the log even if the run failed. The error of the run takes precedence over an error of the drawing.
    let drawn = if log.exists() { picture::draw(&log, &folder.join("run.svg"), &title(arguments)) } else { Ok(()) };
    let held = held?;
    drawn.map(|()| held)
}

fn title(arguments: &Arguments) -> String {
    let Arguments { steps, seed, watched, .. } = arguments;
    let guards = if watched.no_guards { ", no guards" } else { "" };
    let dtype = format!("{:?}", watched.dtype).to_lowercase();
    format!("{dtype}, batch {}, {steps} steps, seed {seed}{guards}", watched.batch)
}

/// Training task: model, text and options.
pub struct Task<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
    description: Description,
    tokens: Vec<u32>,
}

impl<'a> Task<'a> {
    fn new(arguments: &'a Arguments, folder: &'a Path) -> Result<Self> {
        let description = Description {
            layers: LAYERS,
            hidden: HIDDEN,
            heads: HEADS,
            feed_forward: FEED_FORWARD,
            window: WINDOW,
            eps: 1e-5,
            theta: 10_000.0,
            command: String::new(),
            seed: arguments.seed,
            steps: 0,
            merges: merges::learn(corpus::COMMITTED, MERGES)?,
        };
        let encoded = description.tokenizer()?.encode(corpus::COMMITTED, false);
        let tokens = encoded.map_err(|e| anyhow!("the tokenizer can't encode the text: {e}"))?.get_ids().to_vec();
        Ok(Task { arguments, folder, description, tokens })
    }

    pub fn decoder(&self, ops: &'static ops::Ops) -> Result<Decoder<'_>> {
        let mut generator = Generator::new(self.arguments.seed);
        Decoder::new(&self.description, &mut generator, (self.dtype(), ops))
    }

    pub fn steps(&self) -> u64 {
        self.arguments.steps.into()
    }

    fn batch_size(&self) -> usize {
        self.arguments.watched.batch as usize
    }

    fn dtype(&self) -> DType {
        match self.arguments.watched.dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        }
    }

    /// Returns the texts of a step, and the next token for each of their tokens. Both depend on the seed and the step
    /// number only.
    pub fn batch(&self, number: u64) -> Result<(Tensor, Tensor)> {
        let mut generator = Generator::new(self.arguments.seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut texts, mut next): (Vec<u32>, Vec<u32>) = Default::default();
        for _ in 0..self.batch_size() {
            let start = (generator.uniform() * (self.tokens.len() - WINDOW) as f64) as usize;
            texts.extend(&self.tokens[start..start + WINDOW]);
            next.extend(&self.tokens[start + 1..start + 1 + WINDOW]);
        }
        let count = next.len();
        let texts = Tensor::from_vec(texts, (self.batch_size(), WINDOW), &Device::Cpu)?;
        Ok((texts, Tensor::from_vec(next, count, &Device::Cpu)?))
    }

    /// Returns a guarded step for this type, with the given optimizer.
    pub fn step(&self, optimizer: AdamW) -> Result<StableStep<ParamsAdamW>> {
        let dtype = match self.arguments.watched.dtype {
            Dtype::F32 => evenkeel::DType::F32,
            Dtype::Bf16 => evenkeel::DType::BF16,
            Dtype::F16 => evenkeel::DType::F16,
        };
        Ok(StableStep::new(optimizer, precision::loss_scale(dtype), ClipGradNorm::new(MAX_NORM))?)
    }

    /// Returns the monitor that writes the log and the event files.
    pub fn monitor(&self) -> Result<Monitor> {
        let log = Jsonl::append(self.folder.join("run.jsonl"))?.every(LINES_EVERY);
        Ok(Monitor::default().layers_every(LAYERS_EVERY).sink(log).sink(TensorBoard::create(self.folder)?))
    }

    fn guarded(&mut self) -> Result<bool> {
        let decoder = self.decoder(&ops::GUARDED)?;
        let vars = named(&decoder);
        let mut step = self.step(optimizer(&vars)?)?;
        let state = State(self.folder.join("state.safetensors"));
        if self.arguments.watched.resume {
            step = state.restore(step, &vars)?;
        }
        let mut step = step.monitor(self.monitor()?);
        let progress = Progress::new(self.arguments.steps as usize, "steps");
        (0..step.number()).for_each(|_| progress.step());
        let mut losses = Vec::new();
        for number in step.number()..self.steps() {
            let (texts, next) = self.batch(number)?;
            step.optimizer_mut().set_learning_rate(learning_rate(number));
            let stepped = step.run(|| {
                let logits = decoder.forward(&texts).map_err(candle_core::Error::wrap)?;
                (ops::GUARDED.loss)(&logits, &next)
            });
            let stepped = stepped.with_context(|| format!("step {number}"))?;
            losses.push(stepped.loss());
            let norm = match stepped {
                Stepped::Taken { norm, .. } => format!("{norm:.2}"),
                _ => "skipped".into(),
            };
            progress.show(&format!(
                "loss {:.3}, norm {norm}, scale {}",
                losses[losses.len() - 1],
                step.scaler().scale()
            ));
            progress.step();
            if (number + 1).is_multiple_of(self.arguments.watched.save_every.into()) || number + 1 == self.steps() {
                state.save(&step, &vars)?;
            }
        }
        drop(progress);
        println!("{}", step.watched_by().summary());
        if !losses.is_empty() {
            println!("mean loss of the last {} steps: {:.6}", LAST.min(losses.len()), last(&losses));
        }
        Ok(true)
    }

    /// Trains like a typical unguarded loop. Returns false if the loss became non-finite.
    fn careless(&mut self) -> Result<bool> {
        let decoder = self.decoder(&ops::CARELESS)?;
        let vars: Vec<Var> = decoder.weights().values().cloned().collect();
        let mut optimizer = candle_nn::AdamW::new(vars, ParamsAdamW { lr: CARELESS_RATE, ..Default::default() })?;
        let mut monitor = self.monitor()?.layers_every(0);
        for number in 0..self.steps() {
            let (texts, next) = self.batch(number)?;
            let loss = (ops::CARELESS.loss)(&decoder.forward(&texts)?, &next)?;
            let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            match monitor.record(Step::new(number, value).learning_rate(CARELESS_RATE), Vec::new()) {
                Ok(_) => optimizer.backward_step(&loss)?,
                Err(error @ Error::Diverged { .. }) => {
                    println!("{error}");
                    println!("{}", monitor.summary());
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        println!("{}", monitor.summary());
        Ok(true)
    }
}

pub fn named(decoder: &Decoder<'_>) -> HashMap<String, Var> {
    decoder.weights().clone().into_iter().collect()
}

pub fn optimizer(vars: &HashMap<String, Var>) -> Result<AdamW> {
    let params = ParamsAdamW { beta2: 0.99, weight_decay: 0.01, ..ParamsAdamW::default() };
    Ok(AdamW::named(vars.clone(), params)?)
}

/// Returns the mean of the last [`LAST`] losses.
fn last(losses: &[f64]) -> f64 {
    let last = &losses[losses.len().saturating_sub(LAST)..];
    last.iter().sum::<f64>() / last.len() as f64
}

/// File that a run can resume from.
struct State(PathBuf);

impl State {
    fn save(&self, step: &StableStep<ParamsAdamW>, vars: &HashMap<String, Var>) -> Result<()> {
        let cpu = &Device::Cpu;
        let mut tensors: HashMap<String, Tensor> =
            vars.iter().map(|(name, var)| (format!("model.{name}"), var.as_tensor().clone())).collect();
        let optimizer = step.optimizer().state()?;
        tensors.extend(optimizer.into_iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor)));
        let scaler = serde_json::to_vec(&step.scaler().state())?;
        tensors.insert("scaler".into(), Tensor::new(scaler, cpu)?);
        tensors.insert("step".into(), Tensor::new(i64::try_from(step.number())?, cpu)?);
        Ok(save(&tensors, &self.0)?)
    }

    fn restore(
        &self,
        mut step: StableStep<ParamsAdamW>,
        vars: &HashMap<String, Var>,
    ) -> Result<StableStep<ParamsAdamW>> {
        let shown = self.0.display();
        let tensors = candle_core::safetensors::load(&self.0, &Device::Cpu);
        let mut tensors = tensors.with_context(|| format!("can't resume from {shown}"))?;
        let lacks = |name: &str| format!("{shown} has no {name}");
        for (name, var) in vars {
            let name = format!("model.{name}");
            let saved = tensors.remove(&name).with_context(|| lacks(&name))?;
            ensure!(
                saved.dtype() == var.dtype(),
                "{shown} belongs to a run in {:?}, but this run is in {:?}",
                saved.dtype(),
                var.dtype()
            );
            var.set(&saved).with_context(|| format!("{shown}: {name}"))?;
        }
        let scaler = tensors.remove("scaler").with_context(|| lacks("scaler"))?;
        let scaler: LossScalerState = serde_json::from_slice(&scaler.to_vec1::<u8>()?)?;
        let number = tensors.remove("step").with_context(|| lacks("step"))?.to_scalar::<i64>()?;
        let kept = tensors.into_iter();
        let kept = kept.filter_map(|(name, tensor)| Some((name.strip_prefix("optimizer.")?.to_string(), tensor)));
        step.optimizer_mut().restore(&kept.collect())?;
        Ok(step.resume(u64::try_from(number)?, LossScaler::restore(scaler)?))
    }
}
