//! Choice of the backend, made once before the model is loaded.

use anyhow::Result;
use candle_core::Device;
use evenkeel::backend::BackendChoice;
use evenkeel::registry::Backend;
use evenkeel::{Error, Sampled, Sampler, Sequence};
use std::str::FromStr;

/// Requested backend: a name, `auto`, or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    choice: BackendChoice,
    /// Number of the CUDA device.
    ordinal: usize,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (name, number) = name.strip_prefix("cuda:").map_or((name, "0"), |number| ("cuda", number));
        let choice = name.parse().map_err(|error: Error| error.to_string())?;
        let ordinal = number.parse().map_err(|_| format!("{number} is not a device number"))?;
        Ok(Wanted { choice, ordinal })
    }
}

/// Backend that was chosen and set up.
pub struct Place {
    device: Device,
    #[cfg(feature = "neuron")]
    neuron: Option<Neuron>,
}

impl Wanted {
    /// Sets up the backend for the model and for sampling from `vocabulary` tokens. Prints on stderr which backend was
    /// chosen, and why.
    pub fn set_up(self, sampler: &Sampler, vocabulary: usize) -> Result<Place> {
        let make = |backend| match backend {
            Backend::Cuda => Place::cuda(self.ordinal),
            Backend::Neuron => Place::neuron(sampler, vocabulary),
            _ => Ok(Place::of(Device::Cpu)),
        };
        let chosen = self.choice.set_up(make)?;
        eprintln!("backend: {chosen}");
        Ok(chosen.value)
    }
}

impl Place {
    fn of(device: Device) -> Self {
        Place {
            device,
            #[cfg(feature = "neuron")]
            neuron: None,
        }
    }

    fn cuda(ordinal: usize) -> evenkeel::Result<Self> {
        let device = if cfg!(feature = "candle-cuda") {
            Device::new_cuda(ordinal).map_err(|error| format!("device {ordinal}: {error}"))
        } else {
            Err(format!(
                "the backend is not in this build; build with `--features candle-cuda` to use device {ordinal}"
            ))
        };
        device.map(Place::of).map_err(|reason| Error::unavailable("cuda", reason))
    }

    /// Returns the device on which the model runs.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

#[cfg(not(feature = "neuron"))]
impl Place {
    fn neuron(_: &Sampler, _: usize) -> evenkeel::Result<Self> {
        Err(Error::unavailable("neuron", "the backend is not in this build; build with `--features neuron`"))
    }

    /// Draws the next token and appends it to the sequence.
    pub fn sample(&self, sequence: &mut Sequence, _: &Sampler, logits: &[f32]) -> Result<Sampled> {
        Ok(sequence.sample(logits, None)?)
    }
}

/// Neuron device that finds the tokens to draw from.
#[cfg(feature = "neuron")]
struct Neuron {
    session: evenkeel::neuron::Session,
    candidates: usize,
}

#[cfg(feature = "neuron")]
impl Place {
    fn neuron(sampler: &Sampler, vocabulary: usize) -> evenkeel::Result<Self> {
        use evenkeel::neuron::{self, Device as Core, MAX_CANDIDATES, Session};
        // Number of candidates: the k of top-k. A temperature of 0 needs only one candidate, the most likely token.
        let candidates = sampler.config().top_k.unwrap_or(1).min(MAX_CANDIDATES).min(vocabulary).max(1);
        // Checks for the runtime and the compiler before cores are reserved.
        neuron::available()?;
        let session = Session::new(Core::open()?);
        session.load(&neuron::sample(evenkeel::DType::F32, 1, vocabulary, candidates, None)?)?;
        Ok(Place { neuron: Some(Neuron { session, candidates }), ..Place::of(Device::Cpu) })
    }

    /// Draws the next token and appends it to the sequence.
    pub fn sample(&self, sequence: &mut Sequence, sampler: &Sampler, logits: &[f32]) -> Result<Sampled> {
        let Some(Neuron { session, candidates }) = &self.neuron else { return Ok(sequence.sample(logits, None)?) };
        let requests = [evenkeel::Request { sampler, step: sequence.step(None) }];
        let row = evenkeel::Rows::new(logits, 1, logits.len())?;
        let drawn = evenkeel::neuron::run::sample_rows(session, row, None, *candidates, &requests)?;
        let sampled = drawn.into_iter().next().ok_or(Error::empty_input("sample"))??;
        sequence.accept_sampled(&sampled);
        Ok(sampled)
    }
}
