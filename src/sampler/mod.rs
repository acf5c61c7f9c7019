//! The sampler's parameters, the filters that a profile derives from them, and the changes to logits before the
//! filters.

#![forbid(unsafe_code)]

mod adjust;
mod config;
mod dry;
mod feedback;
mod left;
mod plan;
mod profile;
mod step;

pub use adjust::{Adjustments, History, LogitSliceMut};
pub use config::SamplerConfig;
pub use feedback::{Controller, Feedback};
pub use left::{FromLeft, Left, LeftLogits, distance};
pub use plan::{Filter, Plan};
#[cfg(feature = "cuda")]
pub(crate) use profile::Penalties;
pub use profile::Profile;
pub use step::{Draw, Sampled, Step};

pub(crate) const OP: &str = "sample";

/// Sampler with the checked parameters of a [`SamplerConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    config: SamplerConfig,
    plan: Plan,
}

impl Sampler {
    /// Returns the parameters. Parameters that mirostat turns off have their defaults.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    pub(crate) fn feedback(&self) -> Option<Feedback> {
        self.plan.feedback
    }

    /// Returns the parameters and the list of filters derived from them.
    #[cfg(feature = "cuda")]
    pub(crate) fn parts(&self) -> (&SamplerConfig, &Plan) {
        (&self.config, &self.plan)
    }
}

/// Sampler and step for one row of a batch.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::exhaustive_structs,
    reason = "what a request may hold in later versions belongs to its sampler or step"
)]
pub struct Request<'a> {
    /// Sampler with the parameters of the row.
    pub sampler: &'a Sampler,
    /// Generation step that the row's sequence has reached.
    pub step: Step<'a>,
}

impl<'a> Request<'a> {
    pub(crate) fn parts(self) -> (&'a SamplerConfig, &'a Plan, Step<'a>) {
        (&self.sampler.config, &self.sampler.plan, self.step)
    }
}

/// Function that returns the request of a row.
pub type Requests<'r, 'a> = dyn Fn(usize) -> Request<'a> + Sync + 'r;
