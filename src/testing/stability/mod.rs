//! Looks whether a candle module will hold: how it begins, what it makes of hostile input, whether gradients reach all of
//! it, what 16 bits make of it, and whether it learns for some steps.
//!
//! ```
//! use candle_core::{Result, Tensor};
//! use candle_nn::{Linear, Module, VarBuilder, linear};
//! use evenkeel::testing::stability::{Check, StabilityTester};
//!
//! // A scale that is learnt as its logarithm, without a limit.
//! struct Scaled(Linear);
//!
//! impl Module for Scaled {
//!     fn forward(&self, x: &Tensor) -> Result<Tensor> {
//!         self.0.forward(x)?.exp()
//!     }
//! }
//!
//! let tester = StabilityTester::new((4, 8), |vb: VarBuilder| Ok(Scaled(linear(8, 8, vb)?)));
//! let report = tester.check();
//! assert!(report.has(Check::HostileInput), "{report}");
//!
//! StabilityTester::new((4, 8), |vb: VarBuilder| linear(8, 8, vb)).check().assert_clean();
//! ```

mod checks;
mod inputs;
mod report;

pub use report::{Check, Finding, Report};

use candle_core::{DType, Module, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use inputs::Inputs;

/// What turns a module's output into a loss.
type LossOf = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// A module to be, and what it is looked at with.
pub struct StabilityTester<B> {
    build: B,
    inputs: Inputs,
    loss: Option<LossOf>,
    dtypes: Vec<DType>,
    magnitude: f64,
    steps: usize,
    learning_rate: f64,
    norm: f64,
    difference: f64,
    seed: u64,
}

impl<B, M> StabilityTester<B>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    /// A module that takes numbers of this shape, built as always: its parameters are asked for by name, and begin as
    /// candle's hints say.
    pub fn new(shape: impl Into<Shape>, build: B) -> Self {
        StabilityTester {
            build,
            inputs: Inputs::Numbers(shape.into()),
            loss: None,
            dtypes: vec![DType::F16, DType::BF16],
            magnitude: 1e4,
            steps: 20,
            learning_rate: 1e-3,
            norm: 100.0,
            difference: 0.05,
            seed: 0,
        }
    }

    /// That takes tokens of a vocabulary instead, u32 below this.
    pub fn tokens(mut self, vocabulary: u32) -> Self {
        if let Inputs::Numbers(shape) = self.inputs {
            self.inputs = Inputs::Tokens(shape, vocabulary);
        }
        self
    }

    /// The loss, of the module's output: the mean square by default, in f32.
    pub fn loss(self, loss: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Self {
        Self { loss: Some(Box::new(loss)), ..self }
    }

    /// The types beside f32 that the module is to hold in: f16 and bf16 by default.
    pub fn dtypes(self, dtypes: &[DType]) -> Self {
        Self { dtypes: dtypes.to_vec(), ..self }
    }

    /// The largest number that the module is given: 1e4. In f16 it is the square root of that, whose products f16 holds.
    pub fn magnitude(self, magnitude: f64) -> Self {
        Self { magnitude, ..self }
    }

    /// How many steps are taken, of AdamW at this rate: 20 at 1e-3.
    pub fn steps(self, steps: usize, learning_rate: f64) -> Self {
        Self { steps, learning_rate, ..self }
    }

    /// The largest norm that gradients of ordinary input may have: 100.
    pub fn norm(self, norm: f64) -> Self {
        Self { norm, ..self }
    }

    /// By how much of it a loss in 16 bits may differ from that in f32: 0.05.
    pub fn difference(self, difference: f64) -> Self {
        Self { difference, ..self }
    }

    /// Where parameters and inputs are drawn from: 0. The same on every machine.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Looks at everything. What the module itself refuses is a finding too.
    pub fn check(&self) -> Report {
        let mut report = Report::default();
        checks::all(self, &mut report);
        report
    }
}
