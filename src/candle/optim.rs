//! All of [`candle_nn::optim`], and optimisers whose moments and weight updates do not vanish in 16 bits.
//!
//! [`AdamW`] replaces candle's type of this name, with the same signatures. [`Sgd`] adds momentum, dampening, weight
//! decay and Nesterov's method, which candle's `SGD` lacks. A gradient may have another float type than its variable;
//! for example, [`guarded::unscale`](super::guarded::unscale) converts f16 gradients to f32.
//! [`crate::train::Optimizer`] describes the state and the computation of a step.
//!
//! # Errors
//! [`Error::NonFiniteInput`] for a NaN or an infinity in a gradient. After this error everything is unchanged. The
//! error's `row` is the index of the variable in the optimiser's order, and candle's error also gives the variable's
//! name. Other errors are as for [`crate::train::Optimizer`]. Methods with candle's signatures wrap all these errors in
//! candle's error; `evenkeel::Error::from` unwraps them.

#![forbid(unsafe_code)]

use super::custom_op::{Memory, each_memory, share_memory};
use super::guarded::clip::{changed, read};
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::train::init::Stream;
use crate::train::optimizer::check_gradient;
use crate::train::optimizer::sealed::Advance;
use crate::train::{self, Numbers, ParameterState, Rule};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor, Var};
use candle_nn::VarMap;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

pub use candle_nn::optim::*;

/// AdamW, which replaces candle's optimiser.
///
/// Moments are f32 (f64 for f64 variables), and f16 and bf16 variables have f32 master weights. A gradient that is not
/// finite is an error. See [`train::AdamW`].
///
/// ```
/// use candle_core::{Device, Var};
/// use evenkeel::candle::optim::{AdamW, Optimizer, ParamsAdamW};
/// use half::bf16;
/// let x = Var::new(&[bf16::ONE; 2], &Device::Cpu)?;
/// let mut optimizer = AdamW::new(vec![x.clone()], ParamsAdamW { lr: 1e-4, ..ParamsAdamW::default() })?;
/// for _ in 0..100 {
///     optimizer.backward_step(&x.sqr()?.sum_all()?)?;
/// }
/// // Each step is less than half a unit in the last place of bf16. Without master weights, it would be lost.
/// assert_eq!(x.to_vec1::<bf16>()?, [bf16::from_f32(0.9882813); 2]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub type AdamW = Stepper<ParamsAdamW>;

/// Stochastic gradient descent with momentum, dampening, weight decay and Nesterov's method. See [`train::Sgd`].
///
/// ```
/// use candle_core::{Device, Var};
/// use evenkeel::candle::optim::{Optimizer, Sgd};
/// use evenkeel::train;
/// let x = Var::new(&[1f32], &Device::Cpu)?;
/// let mut optimizer = Sgd::new(vec![x.clone()], train::Sgd::default().lr(0.25).momentum(0.5))?;
/// for _ in 0..2 {
///     optimizer.backward_step(&x.sqr()?.sum_all()?)?;
/// }
/// assert_eq!(x.to_vec1::<f32>()?, [0.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub type Sgd = Stepper<train::Sgd>;

/// Settings of a [`Stepper`]: [`ParamsAdamW`] or [`train::Sgd`].
pub trait Settings: Clone {
    /// Evenkeel's update rule for these settings.
    type Rule: Rule;
    /// Converts the settings to Evenkeel's type.
    fn rule(&self) -> Self::Rule;
    /// Sets the learning rate.
    fn set_learning_rate(&mut self, lr: f64);
}

impl Settings for ParamsAdamW {
    type Rule = train::AdamW;

    fn rule(&self) -> train::AdamW {
        let &ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = self;
        train::AdamW::default().lr(lr).beta1(beta1).beta2(beta2).eps(eps).weight_decay(weight_decay)
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

impl Settings for train::Sgd {
    type Rule = train::Sgd;

    fn rule(&self) -> train::Sgd {
        *self
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

/// Optimiser of candle's variables: [`AdamW`] or [`Sgd`].
#[derive(Debug)]
pub struct Stepper<S> {
    settings: S,
    vars: Vec<Named>,
    /// Seed of stochastic rounding. If it is set, 16-bit variables have no master weights.
    seed: Option<u64>,
}

/// A variable with its name and the optimiser's state for it.
#[derive(Debug)]
struct Named {
    name: String,
    var: Var,
    state: ParameterState,
}

impl<S: Settings> Stepper<S> {
    /// Creates an optimiser for named variables, sorted by name.
    ///
    /// Errors and [`Stepper::state`] use the names. Variables that are not floats are left out. A repeated variable
    /// counts once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a setting outside its valid range, or if two variables have the same name;
    /// [`Error::UnsupportedDType`] for a float type that Evenkeel does not support.
    pub fn named(vars: impl IntoIterator<Item = (String, Var)>, settings: S) -> Result<Self> {
        let mut vars: Vec<_> = vars.into_iter().collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        Self::of(vars, settings)
    }

    /// Creates an optimiser for the variables of a map.
    ///
    /// # Errors
    /// The errors of [`Stepper::named`].
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, VarMap, linear};
    /// use evenkeel::candle::optim::{AdamW, ParamsAdamW};
    /// let map = VarMap::new();
    /// linear(2, 3, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu).pp("layer"))?;
    /// let optimizer = AdamW::from_map(&map, ParamsAdamW::default())?;
    /// let state = optimizer.state()?;
    /// assert_eq!(state["layer.weight.root_mean_square"].dims(), [3, 2]);
    ///
    /// // To write the state to a file: `candle_core::safetensors::save(&state, "optimizer.safetensors")`.
    /// let mut again = AdamW::from_map(&map, ParamsAdamW::default())?;
    /// again.restore(&state)?;
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn from_map(map: &VarMap, settings: S) -> Result<Self> {
        let vars = map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Self::named(vars, settings)
    }

    fn of(vars: Vec<(String, Var)>, settings: S) -> Result<Self> {
        let rule = settings.rule();
        rule.check()?;
        let mut seen = HashSet::new();
        let vars = vars.into_iter().filter(|(_, var)| var.dtype().is_float() && seen.insert(var.id()));
        let vars: Vec<_> = vars.collect();
        let mut names = HashSet::new();
        if let Some((name, _)) = vars.iter().find(|(name, _)| !names.insert(name)) {
            return Err(Error::invalid(S::Rule::OP, "name", name, "the name of only one variable"));
        }
        drop(names);
        let named = |(name, var): (String, Var)| {
            let state = read(&var, S::Rule::OP, |param| Ok(ParameterState::new(&rule, param)))?;
            Ok(Named { name, var, state })
        };
        Ok(Stepper { vars: vars.into_iter().map(named).collect::<Result<_>>()?, settings, seed: None })
    }

    /// Rounds f16 and bf16 variables stochastically, without master weights; see
    /// [`train::Optimizer::stochastic_rounding`]. The random bits for a variable depend on its name, or on its index if
    /// it has no name.
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use evenkeel::candle::optim::{Optimizer, Sgd};
    /// use evenkeel::train;
    /// use half::bf16;
    /// let x = Var::new(&[bf16::ONE; 4], &Device::Cpu)?;
    /// let sgd = Sgd::new(vec![x.clone()], train::Sgd::default().lr(1e-3))?;
    /// let mut sgd = sgd.stochastic_rounding(42);
    /// sgd.backward_step(&x.sum_all()?)?;
    /// assert!(!sgd.state()?.contains_key("0.master"));
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn stochastic_rounding(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self.vars.iter_mut().for_each(|named| named.state.master = None);
        self
    }

    /// Returns the variables with their names. The `row` of an error is an index into this list.
    pub fn named_vars(&self) -> Vec<(String, Var)> {
        self.vars.iter().map(|named| (named.name.clone(), named.var.clone())).collect()
    }

    /// Returns the variables. The `row` of an error is an index into this list.
    pub fn into_inner(self) -> Vec<Var> {
        self.vars.into_iter().map(|named| named.var).collect()
    }

    /// Returns the optimiser's whole state as tensors on the CPU.
    ///
    /// A key is a variable's name, a dot, and one of these: `steps`; `master`, for f16 and bf16 variables that are not
    /// rounded stochastically; a name from [`Rule::kept`]. If a variable has no name, its index is used instead.
    ///
    /// # Errors
    /// [`Error::Framework`] for candle's own errors.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let (cpu, rule) = (&Device::Cpu, self.settings.rule());
        let mut tensors = HashMap::new();
        for Named { name, var, state } in &self.vars {
            let shape = var.shape();
            let steps = i64::try_from(state.steps).unwrap_or(i64::MAX);
            tensors.insert(format!("{name}.steps"), Tensor::new(steps, cpu)?);
            if let Some(master) = &state.master {
                tensors.insert(format!("{name}.master"), Tensor::from_slice(master, shape, cpu)?);
            }
            for (what, kept) in rule.kept().iter().zip(&state.kept) {
                let tensor = match kept {
                    Numbers::F64(kept) => Tensor::from_slice(kept, shape, cpu)?,
                    Numbers::F32(kept) => Tensor::from_slice(kept, shape, cpu)?,
                };
                tensors.insert(format!("{name}.{what}"), tensor);
            }
        }
        Ok(tensors)
    }

    /// Restores a state from [`Stepper::state`]. The caller must restore the variables' values from the same step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a tensor that is missing or not finite; [`Error::ShapeMismatch`] for a tensor of
    /// another shape or type. After an error the optimiser is unchanged.
    pub fn restore(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let rule = self.settings.rule();
        let op = S::Rule::OP;
        let mut states = Vec::new();
        for Named { name, var, state: own } in &self.vars {
            let get = |what: &str| {
                let name = format!("{name}.{what}");
                tensors
                    .get(&name)
                    .ok_or_else(|| Error::invalid(op, "the state", "incomplete", format!("a map that contains {name}")))
            };
            let of_var = |what: &str| {
                let tensor = get(what)?;
                if tensor.shape() == var.shape() {
                    return Ok(tensor.flatten_all()?);
                }
                let got = format!("a tensor {name}.{what} of shape {:?}", tensor.dims());
                Err(Error::shape(op, "the state", got, format!("shape {:?}, like {name}", var.dims())))
            };
            let numbers = |what: &str| {
                let tensor = of_var(what)?;
                Ok(match tensor.dtype() {
                    DType::F64 => Numbers::F64(tensor.to_vec1()?),
                    _ => Numbers::F32(tensor.to_vec1()?),
                })
            };
            let mut state = own.clone();
            let steps = get("steps")?.to_scalar::<i64>()?;
            state.steps = u64::try_from(steps).map_err(|_| Error::invalid(op, "steps", steps, "0 or more"))?;
            if own.master.is_some() {
                state.master = Some(of_var("master")?.to_vec1()?);
            }
            state.kept = rule.kept().iter().map(|what| numbers(what)).collect::<Result<_>>()?;
            state.check(&rule, own)?;
            states.push(state);
        }
        for (named, state) in self.vars.iter_mut().zip(states) {
            named.state = state;
        }
        Ok(())
    }

    fn advance(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        let rule = self.settings.rule();
        rule.check()?;
        for (place, Named { name, var, .. }) in self.vars.iter().enumerate() {
            if let Some(grad) = grads.get(var) {
                let (count, kept_wide) = (var.elem_count(), var.dtype() == DType::F64);
                let check = |grad: Floats<'_>| check_gradient(S::Rule::OP, place, count, kept_wide, grad);
                let checked = read(grad, S::Rule::OP, check);
                checked.map_err(|error| {
                    candle_core::Error::from(error).context(format!("can't use the gradient of {name}"))
                })?;
            }
        }
        for Named { name, var, state } in &mut self.vars {
            let stream = self.seed.map(|seed| Stream::named(seed, name));
            if let Some(grad) = grads.get(var) {
                let grad = if share_memory(grad, var) { grad.copy()? } else { grad.clone() };
                read(&grad, S::Rule::OP, |grad| step(rule, state, var, grad, stream))?;
            }
        }
        Ok(())
    }
}

/// Applies one step to a variable: in place on the CPU, and through a copy on the CPU for any other device.
fn step<R: Rule>(
    rule: R,
    state: &mut ParameterState,
    var: &Var,
    grad: Floats<'_>,
    stream: Option<Stream>,
) -> Result<()> {
    if var.device().is_cpu() {
        return Ok(var.inplace_op1(&InPlace { rule, state: RefCell::new(state), grad, stream })?);
    }
    let (stepped, ()) = changed(var, R::OP, |param| rule.advance(state, param, grad, stream))?;
    Ok(var.set(&stepped)?)
}

/// In-place op that applies one step of an optimiser to a variable.
struct InPlace<'a, R> {
    rule: R,
    state: RefCell<&'a mut ParameterState>,
    grad: Floats<'a>,
    stream: Option<Stream>,
}

impl<R: Rule> InplaceOp1 for InPlace<'_, R> {
    fn name(&self) -> &'static str {
        R::OP
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let memory = Memory::of(storage, layout, R::OP)?;
        let param: FloatsMut<'_> = each_memory!(memory, data => data.into());
        Ok(self.rule.advance(&mut self.state.borrow_mut(), param, self.grad, self.stream)?)
    }
}

impl<S: Settings> Optimizer for Stepper<S> {
    type Config = S;

    fn new(vars: Vec<Var>, config: S) -> candle_core::Result<Self> {
        let places = (0..vars.len()).map(|place| place.to_string());
        Ok(Self::of(places.zip(vars).collect(), config)?)
    }

    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        self.advance(grads)
    }

    fn learning_rate(&self) -> f64 {
        self.settings.rule().learning_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.settings.set_learning_rate(lr);
    }
}

impl AdamW {
    /// Creates an optimiser with this learning rate and candle's defaults for all other settings.
    ///
    /// # Errors
    /// The errors of [`Stepper::named`].
    pub fn new_lr(vars: Vec<Var>, learning_rate: f64) -> candle_core::Result<Self> {
        Self::new(vars, ParamsAdamW { lr: learning_rate, ..ParamsAdamW::default() })
    }

    /// Returns the settings.
    pub fn params(&self) -> &ParamsAdamW {
        &self.settings
    }

    /// Replaces the settings. The next step checks them.
    pub fn set_params(&mut self, params: ParamsAdamW) {
        self.settings = params;
    }
}
