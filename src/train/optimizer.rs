//! What all optimisers have in common: checks before anything changes, f32 weights for models in 16 bits, states that
//! are saved and restored.

use crate::cpu::optimizer::{self, Formula};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::ops::clip_grad_norm::{NormType, refusal};
use crate::ops::is_in_zero_to;
use crate::simd::in_default;

/// An optimiser: its settings are a [`Rule`], which is [`AdamW`](super::AdamW) or [`Sgd`](super::Sgd).
///
/// Parameters of f16 and bf16 have master weights in f32, whose roundings they are; those of f32 and f64 are their own.
/// What is kept beside a weight has its type, f32 or f64. Each step is computed in f64, and what is kept is rounded once.
/// A parameter of 16 bits that was overwritten between two steps is taken as it is.
///
/// # Errors
/// Before anything changes: [`Error::ShapeMismatch`] for other parameters than those it was made for, or a gradient of
/// another length; [`Error::NonFiniteInput`], whose `row` is the first parameter with a NaN or an infinity in its gradient
/// and whose `index` is the first of its elements that is one; [`Error::InvalidArgument`] for a learning rate that makes no
/// sense, and for a gradient of f64 that is beyond f32 where that is what is kept. [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// ```
/// use evenkeel::train::{AdamW, Optimizer};
/// use half::f16;
/// let mut weight = [f16::ONE; 2];
/// let mut optimizer = Optimizer::new(AdamW::default().lr(1e-5), &[(&weight).into()])?;
/// // The steps are too small for f16, but not for the master weights.
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
    types: Vec<DType>,
    states: Vec<ParameterState>,
}

/// Numbers that an optimiser keeps.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Numbers {
    /// Beside weights of f64.
    F64(Vec<f64>),
    /// Beside weights of any other type.
    F32(Vec<f32>),
}

/// All that an optimiser knows of a parameter, to be saved and restored exactly.
///
/// With the feature `serde` it is read and written with its fields by name.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct ParameterState {
    /// How many steps it took: those with a gradient. It stays at `u64::MAX` once it is there.
    pub steps: u64,
    /// The weights of which a parameter of f16 or bf16 is the rounding.
    pub master: Option<Vec<f32>>,
    /// What the rule keeps beside each weight: [`Rule::kept`] names them.
    pub kept: Vec<Numbers>,
}

/// The settings of an optimiser, and how it steps. [`AdamW`](super::AdamW) and [`Sgd`](super::Sgd) are all there are.
pub trait Rule: Copy + sealed::Advance {
    /// The names of what is kept beside each weight.
    fn kept(&self) -> &'static [&'static str];
    /// The learning rate.
    fn learning_rate(&self) -> f64;
    /// The same with this learning rate, which is checked with the next step.
    fn with_learning_rate(self, lr: f64) -> Self;
}

pub(crate) mod sealed {
    use super::{Floats, FloatsMut, ParameterState, Result, in_default};

    /// What only this crate implements.
    pub trait Advance {
        /// As in errors.
        const OP: &'static str;
        /// Checks all settings.
        fn check_settings(&self) -> Result<()>;
        /// A step of one parameter, of which all was checked.
        fn update(&self, state: &mut ParameterState, param: FloatsMut<'_>, gradient: Floats<'_>) -> Result<()>;

        /// [`Advance::check_settings`] in the default floating-point environment.
        fn check(&self) -> Result<()> {
            in_default(|| self.check_settings())
        }
        /// [`Advance::update`] in the default floating-point environment.
        fn advance(&self, state: &mut ParameterState, param: FloatsMut<'_>, gradient: Floats<'_>) -> Result<()> {
            in_default(|| self.update(state, param, gradient))
        }
    }
}

impl<R: Rule> Optimizer<R> {
    /// An optimiser for these parameters, which are handed to each step in this order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], of a setting that is outside its meaning.
    pub fn new(rule: R, params: &[Floats<'_>]) -> Result<Self> {
        rule.check()?;
        let states = params.iter().map(|param| ParameterState::new(&rule, *param)).collect();
        Ok(Optimizer { rule, types: params.iter().map(Floats::dtype).collect(), states })
    }

    /// A step of all parameters that have a gradient, of any float type.
    ///
    /// # Errors
    /// See the [type](Optimizer).
    pub fn step(&mut self, params: &mut [FloatsMut<'_>], grads: &[Option<Floats<'_>>]) -> Result<()> {
        self.rule.check()?;
        for (what, count) in [("params", params.len()), ("grads", grads.len())] {
            if count != self.states.len() {
                return Err(Error::shape(R::OP, what, count.to_string(), self.states.len().to_string()));
            }
        }
        for (place, (param, state)) in params.iter().zip(&self.states).enumerate() {
            state.fits(R::OP, self.types[place], param.as_floats())?;
            if let Some(grad) = grads[place] {
                check_gradient(R::OP, place, param.len(), param.dtype() == DType::F64, grad)?;
            }
        }
        for ((param, grad), state) in params.iter_mut().zip(grads).zip(&mut self.states) {
            if let Some(grad) = grad {
                self.rule.advance(state, param.reborrow(), *grad)?;
            }
        }
        Ok(())
    }

    /// The settings.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// Sets the learning rate, which is checked with the next step.
    pub fn set_learning_rate(&mut self, lr: f64) {
        self.rule = self.rule.with_learning_rate(lr);
    }

    /// What is known of each parameter.
    pub fn state(&self) -> &[ParameterState] {
        &self.states
    }

    /// Goes on from a state. Parameters are to be what they were with it: one of 16 bits that is not the rounding of its
    /// master weight is taken as it is.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for states of other parameters; [`Error::InvalidArgument`] for what is not finite, or a
    /// root below 0. The optimiser is then as it was.
    pub fn restore(&mut self, states: Vec<ParameterState>) -> Result<()> {
        if states.len() != self.states.len() {
            return Err(Error::shape(R::OP, "states", states.len().to_string(), self.states.len().to_string()));
        }
        for (state, own) in states.iter().zip(&self.states) {
            state.check(&self.rule, own)?;
        }
        self.states = states;
        Ok(())
    }
}

impl Numbers {
    /// As many zeros.
    fn zeros(dtype: DType, count: usize) -> Self {
        if dtype == DType::F64 { Numbers::F64(vec![0.0; count]) } else { Numbers::F32(vec![0.0; count]) }
    }

    fn f64s(&mut self) -> &mut [f64] {
        if let Numbers::F64(numbers) = self { numbers } else { &mut [] }
    }

    fn f32s(&mut self) -> &mut [f32] {
        if let Numbers::F32(numbers) = self { numbers } else { &mut [] }
    }

    /// To read.
    pub fn as_floats(&self) -> Floats<'_> {
        match self {
            Numbers::F64(numbers) => numbers.into(),
            Numbers::F32(numbers) => numbers.into(),
        }
    }
}

impl ParameterState {
    /// Of a parameter that took no step.
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

    /// That this is a parameter's state.
    fn fits(&self, op: &'static str, dtype: DType, param: Floats<'_>) -> Result<()> {
        let own = match (&self.master, self.kept.first()) {
            (Some(master), _) => master.len(),
            (None, Some(kept)) => kept.as_floats().len(),
            (None, None) => param.len(),
        };
        if (param.dtype(), param.len()) == (dtype, own) {
            return Ok(());
        }
        let of = |dtype: DType, count: usize| format!("{count} elements of {dtype}");
        Err(Error::shape(op, "a parameter", of(param.dtype(), param.len()), of(dtype, own)))
    }

    /// That this can follow on a parameter's own state.
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
            return Err(Error::shape(op, "a state", format!("{:?}", shape(self)), format!("{:?}", shape(own))));
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

    /// A step by one formula of one parameter, of which all was checked.
    pub(super) fn advance<const N: usize>(
        &mut self,
        param: FloatsMut<'_>,
        gradient: Floats<'_>,
        formula: impl Formula<N>,
    ) -> Result<()> {
        let ParameterState { master, kept, .. } = self;
        match (param, master) {
            (FloatsMut::F64(param), _) => optimizer::step(param, each(kept, Numbers::f64s), gradient, formula),
            (FloatsMut::F32(param), _) => optimizer::step(param, each(kept, Numbers::f32s), gradient, formula),
            (FloatsMut::F16(param), Some(master)) => {
                optimizer::step_rounded(master, param, each(kept, Numbers::f32s), gradient, formula)
            }
            (FloatsMut::BF16(param), Some(master)) => {
                optimizer::step_rounded(master, param, each(kept, Numbers::f32s), gradient, formula)
            }
            _ => unreachable!("16-bit parameters have master weights"),
        }
    }
}

/// What is kept, as the slices that it is known to be.
fn each<'a, T, const N: usize>(kept: &'a mut [Numbers], of: fn(&'a mut Numbers) -> &'a mut [T]) -> [&'a mut [T]; N] {
    let mut kept = kept.iter_mut();
    std::array::from_fn(|_| kept.next().map_or(Default::default(), of))
}

/// That a gradient is one of a parameter with so many elements.
pub(crate) fn check_len(op: &'static str, count: usize, grad: Floats<'_>) -> Result<()> {
    if grad.len() == count {
        return Ok(());
    }
    let expected = format!("{count}, as its parameter");
    Err(Error::shape(op, "a gradient", format!("{} elements", grad.len()), expected))
}

/// [`check_len`], and that it is finite, also in f32 if that is what is kept.
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
        return Err(refusal(op, place, grad)?);
    }
    if !kept_wide && in_default(|| largest > f64::from(f32::MAX)) {
        let expected = format!("at most {:e}, the largest of F32", f32::MAX);
        return Err(Error::invalid_in_row(op, "the largest of a gradient", place, format!("{largest:e}"), expected));
    }
    Ok(())
}

fn check_finite(op: &'static str, what: &'static str, numbers: Floats<'_>) -> Result<()> {
    match numbers.finite()?.first {
        None => Ok(()),
        Some(index) => Err(Error::invalid(op, what, numbers.get(index).unwrap_or(f64::NAN), "finite")),
    }
}
