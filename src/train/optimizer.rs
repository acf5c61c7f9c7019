//! Code that all optimisers share. It checks all arguments before anything changes, keeps f32 master weights for 16-bit
//! models, and saves and restores states.

use super::init::Stream;
use crate::cpu::optimizer::{self, Formula};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::ops::clip_grad_norm::{NormType, refusal};
use crate::ops::is_in_zero_to;
use crate::simd::in_default;

/// An optimiser. Its settings are a [`Rule`]: [`AdamW`](super::AdamW) or [`Sgd`](super::Sgd).
///
/// Parameters of f16 and bf16 hold the rounded values of f32 master weights, which the optimiser keeps. Parameters of
/// f32 and f64 have no master weights. The optimiser's state, such as moments, is f64 for f64 parameters and f32 for
/// all other parameters. Each step is computed in f64, and the new state is rounded once. If a 16-bit parameter was
/// overwritten between two steps, its new value replaces the master weight. With [`Optimizer::stochastic_rounding`],
/// 16-bit parameters have no master weights.
///
/// # Errors
/// Errors are returned before anything changes:
/// - [`Error::ShapeMismatch`] if the parameters differ from those the optimiser was created for, or if a gradient has
///   another length than its parameter.
/// - [`Error::NonFiniteInput`] for a NaN or an infinity in a gradient. Its `row` is the index of the first parameter
///   with such a gradient. Its `index` is the position of the first NaN or infinity in this gradient.
/// - [`Error::InvalidArgument`] for an invalid learning rate, and for an f64 gradient beyond the range of f32 if the
///   state is f32.
/// - [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// ```
/// use evenkeel::train::{AdamW, Optimizer};
/// use half::f16;
/// let mut weight = [f16::ONE; 2];
/// let mut optimizer = Optimizer::new(AdamW::default().lr(1e-5), &[(&weight).into()])?;
/// // The changes are too small for f16, but not for the master weights.
/// for _ in 0..100 {
///     optimizer.step(&mut [(&mut weight).into()], &[Some((&[0.5f32, -0.5]).into())])?;
/// }
/// assert_eq!(weight.map(f32::from), [0.99902344, 1.0009766]);
///
/// let broken = [0.0f32, f32::NAN];
/// let refused = optimizer.step(&mut [(&mut weight).into()], &[Some((&broken).into())]);
/// assert_eq!(refused.map_err(|e| (e.row(), e.index())), Err((Some(0), Some(1))));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer<R> {
    rule: R,
    /// Type and length of each parameter.
    types: Vec<(DType, usize)>,
    states: Vec<ParameterState>,
    /// Seed of stochastic rounding. If a seed is set, 16-bit parameters have no master weights.
    seed: Option<u64>,
}

/// A state variable of an optimiser, with one number for each weight of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[allow(clippy::exhaustive_enums, reason = "states are kept in the two wide types only")]
pub enum Numbers {
    /// State for weights of f64.
    F64(Vec<f64>),
    /// State for weights of any other type.
    F32(Vec<f32>),
}

/// Complete state of an optimiser for one parameter, which can be saved and restored exactly.
///
/// With the feature `serde`, the state can be serialised and deserialised, with its fields by name.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct ParameterState {
    /// Number of steps in which the parameter had a gradient. It saturates at `u64::MAX`.
    pub steps: u64,
    /// Master weights, for a parameter of f16 or bf16 without stochastic rounding. The parameter holds their rounded
    /// values.
    pub master: Option<Vec<f32>>,
    /// State variables of the rule, in the order of the names in [`Rule::kept`].
    pub kept: Vec<Numbers>,
}

/// Settings and update rule of an optimiser. The only rules are [`AdamW`](super::AdamW) and [`Sgd`](super::Sgd).
pub trait Rule: Copy + sealed::Advance {
    /// Returns the names of the state variables that the rule keeps for each weight.
    fn kept(&self) -> &'static [&'static str];
    /// Returns the learning rate.
    fn learning_rate(&self) -> f64;
    /// Returns the same rule with another learning rate, which is checked in the next step.
    fn with_learning_rate(self, lr: f64) -> Self;
}

pub(crate) mod sealed {
    use super::{Floats, FloatsMut, ParameterState, Result, Stream, in_default};

    /// The part of [`Rule`](super::Rule) that only this crate can implement.
    pub trait Advance {
        /// Name of the rule in errors.
        const OP: &'static str;
        /// Checks all settings.
        fn check_settings(&self) -> Result<()>;
        /// Updates one parameter. All arguments have been checked. The stream is the source of random bits for a 16-bit
        /// parameter without master weights.
        fn update(
            &self,
            state: &mut ParameterState,
            param: FloatsMut<'_>,
            gradient: Floats<'_>,
            stream: Option<Stream>,
        ) -> Result<()>;

        /// Runs [`Advance::check_settings`] in the default floating-point environment.
        fn check(&self) -> Result<()> {
            in_default(|| self.check_settings())
        }
        /// Runs [`Advance::update`] in the default floating-point environment.
        fn advance(
            &self,
            state: &mut ParameterState,
            param: FloatsMut<'_>,
            gradient: Floats<'_>,
            stream: Option<Stream>,
        ) -> Result<()> {
            in_default(|| self.update(state, param, gradient, stream))
        }
    }
}

impl<R: Rule> Optimizer<R> {
    /// Creates an optimiser for these parameters. Pass them to each step in the same order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an invalid setting.
    pub fn new(rule: R, params: &[Floats<'_>]) -> Result<Self> {
        rule.check()?;
        let states = params.iter().map(|param| ParameterState::new(&rule, *param)).collect();
        Ok(Optimizer {
            rule,
            types: params.iter().map(|param| (param.dtype(), param.len())).collect(),
            states,
            seed: None,
        })
    }

    /// Enables stochastic rounding of f16 and bf16 parameters. These parameters have no master weights, which saves 4
    /// bytes for each weight.
    ///
    /// Each step computes a new weight in f64, rounds it to f32, and then rounds it up or down to 16 bits. The
    /// probability of rounding up is the distance from the lower 16-bit neighbour, divided by the spacing of the
    /// neighbours, with an error of at most 2^-33. Changes far below the spacing of the type therefore accumulate on
    /// average. Rounding to nearest would lose them. Like f32 master weights, stochastic rounding loses changes below
    /// 2^-25 of the weight, because the new weight is first rounded to f32. The random bits of a weight depend only on
    /// the seed, the indices of parameter and weight, and the number of steps in which the parameter had a gradient.
    /// These bits are the same on every machine.
    ///
    /// Call this method before the first step, because it discards master weights. The saved state does not contain the
    /// seed. To continue from a saved state, call this method with the same seed on a new optimiser before
    /// [`Optimizer::restore`].
    ///
    /// A weight beyond the largest value of its type is rounded to nearest. f32 and f64 parameters are not affected.
    ///
    /// # Source
    /// Gupta, Agrawal, Gopalakrishnan and Narayanan, "Deep learning with limited numerical precision", 2015.
    ///
    /// ```
    /// use evenkeel::train::{Optimizer, Sgd};
    /// use half::bf16;
    /// let mut weight = [bf16::ONE; 1024];
    /// let mut optimizer = Optimizer::new(Sgd::default().lr(1e-3), &[(&weight).into()])?.stochastic_rounding(42);
    /// // The spacing of bf16 below 1 is 2^-8, so rounding to nearest would lose each of these steps.
    /// for _ in 0..100 {
    ///     optimizer.step(&mut [(&mut weight).into()], &[Some((&[1f32; 1024]).into())])?;
    /// }
    /// let mean = weight.iter().map(|w| w.to_f64()).sum::<f64>() / 1024.0;
    /// assert!((mean - 0.9).abs() < 0.005);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn stochastic_rounding(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self.states.iter_mut().for_each(|state| state.master = None);
        self
    }

    /// Updates all parameters that have a gradient. Gradients may be of any float type.
    ///
    /// # Errors
    /// See the [type](Optimizer).
    pub fn step(&mut self, params: &mut [FloatsMut<'_>], grads: &[Option<Floats<'_>>]) -> Result<()> {
        self.rule.check()?;
        for (what, count) in [("params", params.len()), ("grads", grads.len())] {
            if count != self.states.len() {
                return Err(Error::shape(R::OP, what, format!("{count} tensors"), self.states.len().to_string()));
            }
        }
        for (place, param) in params.iter().enumerate() {
            has_type(R::OP, param.as_floats(), self.types[place])?;
            if let Some(grad) = grads[place] {
                check_gradient(R::OP, place, param.len(), param.dtype() == DType::F64, grad)?;
            }
        }
        for (place, ((param, grad), state)) in params.iter_mut().zip(grads).zip(&mut self.states).enumerate() {
            let stream = self.seed.map(|seed| Stream::numbered(seed, place as u64));
            if let Some(grad) = grad {
                self.rule.advance(state, param.reborrow(), *grad, stream)?;
            }
        }
        Ok(())
    }

    /// Returns the settings.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// Sets the learning rate, which is checked in the next step.
    pub fn set_learning_rate(&mut self, lr: f64) {
        self.rule = self.rule.with_learning_rate(lr);
    }

    /// Returns the state of each parameter.
    pub fn state(&self) -> &[ParameterState] {
        &self.states
    }

    /// Restores a state that was saved earlier. The parameters must have the values they had when the state was saved.
    /// If a 16-bit parameter differs from its rounded master weight, the next step replaces the master weight by the
    /// parameter.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for states of other parameters. [`Error::InvalidArgument`] for a value that is not
    /// finite, or for a negative number in the state variable `root_mean_square`. After an error the optimiser is
    /// unchanged.
    pub fn restore(&mut self, states: Vec<ParameterState>) -> Result<()> {
        if states.len() != self.states.len() {
            return Err(Error::shape(
                R::OP,
                "states",
                format!("{} parameters", states.len()),
                self.states.len().to_string(),
            ));
        }
        for (state, own) in states.iter().zip(&self.states) {
            state.check(&self.rule, own)?;
        }
        self.states = states;
        Ok(())
    }
}

/// Checks that a parameter has the type and length that it had when the optimiser was created.
fn has_type(op: &'static str, param: Floats<'_>, expected: (DType, usize)) -> Result<()> {
    let got = (param.dtype(), param.len());
    let of = |(dtype, count): (DType, usize)| format!("{count} elements of {dtype}");
    if got == expected { Ok(()) } else { Err(Error::shape(op, "a parameter", of(got), of(expected))) }
}

impl Numbers {
    /// Creates `count` zeros, as state for weights of this type.
    fn zeros(dtype: DType, count: usize) -> Self {
        if dtype == DType::F64 { Numbers::F64(vec![0.0; count]) } else { Numbers::F32(vec![0.0; count]) }
    }

    fn f64s(&mut self) -> &mut [f64] {
        if let Numbers::F64(numbers) = self { numbers } else { &mut [] }
    }

    fn f32s(&mut self) -> &mut [f32] {
        if let Numbers::F32(numbers) = self { numbers } else { &mut [] }
    }

    /// Returns a read-only view of the numbers.
    pub fn as_floats(&self) -> Floats<'_> {
        match self {
            Numbers::F64(numbers) => numbers.into(),
            Numbers::F32(numbers) => numbers.into(),
        }
    }
}

impl ParameterState {
    /// Creates the state of a parameter before its first step.
    pub(crate) fn new(rule: &impl Rule, param: Floats<'_>) -> Self {
        let (dtype, count) = (param.dtype(), param.len());
        let master = match param {
            Floats::F16(values) => Some(values.iter().map(|v| v.to_f32()).collect()),
            Floats::BF16(values) => Some(values.iter().map(|v| v.to_f32()).collect()),
            _ => None,
        };
        let kept = rule.kept().iter().map(|_| Numbers::zeros(dtype, count)).collect();
        ParameterState { steps: 0, master, kept }
    }

    /// Checks that this state can replace a parameter's current state.
    pub(crate) fn check(&self, rule: &impl Rule, own: &ParameterState) -> Result<()> {
        fn shape(state: &ParameterState) -> Vec<Option<(DType, usize)>> {
            let of = |floats: Floats<'_>| Some((floats.dtype(), floats.len()));
            let master = state.master.as_ref().and_then(|master| of(master.into()));
            [master].into_iter().chain(state.kept.iter().map(|kept| of(kept.as_floats()))).collect()
        }
        fn op<R: Rule>(_: &R) -> &'static str {
            R::OP
        }
        let op = op(rule);
        if shape(self) != shape(own) {
            return Err(Error::shape(
                op,
                "a state",
                format!("types and lengths {:?}", shape(self)),
                format!("{:?}", shape(own)),
            ));
        }
        if let Some(master) = &self.master {
            check_finite(op, "master", master.into())?;
        }
        for (name, kept) in rule.kept().iter().zip(&self.kept) {
            check_finite(op, name, kept.as_floats())?;
            if *name == super::adamw::ROOT {
                let floats = kept.as_floats();
                let is_below = |root: &f64| !is_in_zero_to(*root, f64::MAX);
                let below = in_default(|| (0..floats.len()).filter_map(|i| floats.get(i)).find(is_below));
                if let Some(root) = below {
                    return Err(Error::invalid(op, name, root, "0 or more"));
                }
            }
        }
        Ok(())
    }

    /// Updates one parameter and its state by a formula. All arguments have been checked.
    pub(super) fn advance(
        &mut self,
        param: FloatsMut<'_>,
        gradient: Floats<'_>,
        stream: Option<Stream>,
        formula: Formula,
    ) -> Result<()> {
        let random = stream.map(|stream| stream.random_bits(self.steps));
        let ParameterState { master, kept, .. } = self;
        match (param, master, random) {
            (FloatsMut::F64(param), ..) => optimizer::step(param, each(kept, Numbers::f64s), gradient, formula),
            (FloatsMut::F32(param), ..) => optimizer::step(param, each(kept, Numbers::f32s), gradient, formula),
            (FloatsMut::F16(param), Some(master), _) => {
                optimizer::step_rounded(master, param, each(kept, Numbers::f32s), gradient, formula)
            }
            (FloatsMut::BF16(param), Some(master), _) => {
                optimizer::step_rounded(master, param, each(kept, Numbers::f32s), gradient, formula)
            }
            (FloatsMut::F16(param), None, Some(random)) => {
                optimizer::step_stochastic(param, each(kept, Numbers::f32s), gradient, random, formula)
            }
            (FloatsMut::BF16(param), None, Some(random)) => {
                optimizer::step_stochastic(param, each(kept, Numbers::f32s), gradient, random, formula)
            }
            _ => unreachable!("a 16-bit parameter must have master weights or a stream of random bits"),
        }
    }
}

/// Returns a slice of each state variable. The function `of` borrows the slice from the variable. A missing variable
/// gives an empty slice.
fn each<'a, T>(kept: &'a mut [Numbers], of: fn(&'a mut Numbers) -> &'a mut [T]) -> [&'a mut [T]; 2] {
    let mut kept = kept.iter_mut().map(of);
    [kept.next().unwrap_or_default(), kept.next().unwrap_or_default()]
}

/// Checks that a gradient has as many elements as its parameter.
pub(crate) fn check_len(op: &'static str, count: usize, grad: Floats<'_>) -> Result<()> {
    if grad.len() == count {
        return Ok(());
    }
    let expected = format!("{count}, the length of its parameter");
    Err(Error::shape(op, "a gradient", format!("{} elements", grad.len()), expected))
}

/// Checks that a gradient has `count` elements and is finite. If the state is f32, also checks that the gradient is in
/// the range of f32.
pub(crate) fn check_gradient(
    op: &'static str,
    place: usize,
    count: usize,
    kept_wide: bool,
    grad: Floats<'_>,
) -> Result<()> {
    check_len(op, count, grad)?;
    let largest = grad.norm_part(NormType::Infinity)?.value;
    if in_default(|| !largest.is_finite()) {
        return Err(refusal(op, "parameter", place, grad)?);
    }
    if !kept_wide && in_default(|| largest > f64::from(f32::MAX)) {
        let expected = format!("at most {:e}, the largest value of F32", f32::MAX);
        let (argument, value) = ("the largest magnitude of a gradient", format!("{largest:e} for parameter {place}"));
        return Err(Error::InvalidArgument { op, argument, value, expected, row: Some(place) });
    }
    Ok(())
}

fn check_finite(op: &'static str, what: &'static str, numbers: Floats<'_>) -> Result<()> {
    match numbers.finite()?.first {
        None => Ok(()),
        Some(index) => Err(Error::invalid(op, what, numbers.get(index).unwrap_or(f64::NAN), "finite")),
    }
}
