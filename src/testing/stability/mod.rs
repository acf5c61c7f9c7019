//! Checks of the numerical stability of a candle module: its initialisation, its output for hostile input, the
//! gradients of all parameters, its behaviour in 16 bits, and some training steps.
//!
//! ```
//! use candle_core::{Result, Tensor};
//! use candle_nn::{Linear, Module, VarBuilder, linear};
//! use evenkeel::testing::stability::{Check, StabilityTester};
//!
//! // A module that applies exp to a learnt logarithm without a limit.
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

/// Function that computes a loss from the output of a module.
type LossOf = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// Stability checks for a module, with their settings.
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
    /// Creates the checks for a module whose input is a tensor of numbers of this shape.
    ///
    /// `build` creates the module as usual: it requests the parameters by name, with candle's hints for their initial
    /// values.
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

    /// Makes the input a tensor of tokens, which are u32 numbers below `vocabulary`. The shape stays the same.
    pub fn tokens(mut self, vocabulary: u32) -> Self {
        if let Inputs::Numbers(shape) = self.inputs {
            self.inputs = Inputs::Tokens(shape, vocabulary);
        }
        self
    }

    /// Sets the loss as a function of the module's output. The default is the mean square in f32.
    pub fn loss(self, loss: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Self {
        Self { loss: Some(Box::new(loss)), ..self }
    }

    /// Sets the types in which the module is checked. f32 is always checked. The default types are f16 and bf16.
    pub fn dtypes(self, dtypes: &[DType]) -> Self {
        Self { dtypes: dtypes.to_vec(), ..self }
    }

    /// Sets the largest input magnitude; 1e4 by default. For f16, the square root of this magnitude is used, so that
    /// products of inputs are in range.
    pub fn magnitude(self, magnitude: f64) -> Self {
        Self { magnitude, ..self }
    }

    /// Sets the number of training steps with AdamW, and their learning rate. The default is 20 steps with 1e-3.
    pub fn steps(self, steps: usize, learning_rate: f64) -> Self {
        Self { steps, learning_rate, ..self }
    }

    /// Sets the limit for the gradient norm with ordinary input; 100 by default.
    pub fn norm(self, norm: f64) -> Self {
        Self { norm, ..self }
    }

    /// Sets the limit for the relative difference between the losses in 16 bits and in f32; 0.05 by default.
    pub fn difference(self, difference: f64) -> Self {
        Self { difference, ..self }
    }

    /// Sets the seed of the parameters and inputs; 0 by default. A seed gives the same values on every
    /// machine.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Runs all checks. An error that the module itself returns is a finding too.
    pub fn check(&self) -> Report {
        let mut report = Report::default();
        checks::all(self, &mut report);
        report
    }
}
