//! All of [`candle_nn::init`], and initial weights that do not depend on the machine or on the order in which variables
//! are created.

use crate::error::{Error, Result};
use crate::simd::{filled, in_default};
use crate::train::init::{Init as Own, Stream, fill};
use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{VarBuilder, VarMap};
use half::{bf16, f16};

pub use candle_nn::init::*;

/// Creates a variable with initial values from [`crate::train::init::fill`].
///
/// # Errors
/// The errors of [`crate::train::init::fill`]; [`Error::UnsupportedDType`] for a type that Evenkeel does not support;
/// [`Error::Framework`] for candle's own errors.
///
/// ```
/// use candle_core::{DType, Device};
/// use evenkeel::candle::init::var;
/// use evenkeel::train::init::{Init, Stream};
/// let weight = var(&Init::xavier_uniform(0.5), (4, 3), Stream::named(42, "weight"), DType::BF16, &Device::Cpu)?;
/// assert_eq!(weight.dims(), [4, 3]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn var(init: &Own, shape: impl Into<Shape>, stream: Stream, dtype: DType, device: &Device) -> Result<Var> {
    let shape = shape.into();
    let dims = shape.dims();
    let Some(count) = dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim)) else {
        return Err(Error::shape("init", "the shape", format!("the axes {dims:?}"), "fewer than 2^64 elements"));
    };
    macro_rules! of {
        ($zero:expr) => {{
            let mut values = filled("init", "the variable", count, $zero)?;
            fill(&mut values, shape.dims(), init, stream)?;
            Tensor::from_vec(values, &shape, device)?
        }};
    }
    let tensor = match dtype {
        DType::F64 => of!(0f64),
        DType::F32 => of!(0f32),
        DType::F16 => of!(f16::ZERO),
        DType::BF16 => of!(bf16::ZERO),
        other => return Err(Error::UnsupportedDType { op: "init", dtype: format!("{other:?}"), backend: "candle" }),
    };
    Ok(Var::from_tensor(&tensor)?)
}

/// Converts candle's initialisation hint for a shape to the equivalent [`Init`](crate::train::init::Init) of Evenkeel.
///
/// ```
/// use candle_core::Shape;
/// use evenkeel::candle::init::{DEFAULT_KAIMING_NORMAL, of_hint};
/// use evenkeel::train::init::Init;
/// let hint = of_hint(&DEFAULT_KAIMING_NORMAL, &Shape::from((4, 8)));
/// assert_eq!(hint, Init::Normal { mean: 0.0, std: 0.5 });
/// ```
pub fn of_hint(hint: &Init, shape: &Shape) -> Own {
    match *hint {
        Init::Const(value) => Own::Constant(value),
        Init::Randn { mean, stdev } => Own::Normal { mean, std: stdev },
        Init::Uniform { lo, up } => Own::Uniform { low: lo, high: up },
        Init::Kaiming { dist, fan, non_linearity } => {
            // Candle's fan-in and fan-out are also defined for tensors with one axis. For an empty tensor, they may be
            // 0. A 0 is replaced by 1, to avoid a division by 0.
            let std = in_default(|| non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt());
            match dist {
                NormalOrUniform::Normal => Own::Normal { mean: 0.0, std },
                NormalOrUniform::Uniform => {
                    let bound = in_default(|| 3f64.sqrt() * std);
                    Own::Uniform { low: -bound, high: bound }
                }
            }
        }
    }
}

/// Function of a variable's name, shape and hint. It returns an initialisation that overrides the hint, or `None` to
/// use the hint.
type Choice = dyn Fn(&str, &Shape, &Init) -> Option<Own> + Send + Sync;

/// Backend of a [`VarBuilder`]. It initialises the variables of a [`VarMap`] from a seed and the variables' names.
///
/// A model gets the same weights on any machine, no matter which other variables are created. Variables that the map
/// already contains keep their values.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{VarMap, linear};
/// use evenkeel::candle::init::Seeded;
/// use evenkeel::train::init::Init;
/// let map = VarMap::new();
/// // Xavier initialisation with gain 0.5 for matrices, zero for biases.
/// let seeded = Seeded::new(&map, 42).choose(|name, shape, _| match shape.rank() {
///     2 => Some(Init::xavier_uniform(0.5)),
///     _ => name.ends_with("bias").then_some(Init::Constant(0.0)),
/// });
/// let vb = seeded.var_builder(DType::F32, &Device::Cpu);
/// let layer = linear(8, 4, vb.pp("layer"))?;
/// assert_eq!(layer.bias().map(|bias| bias.to_vec1::<f32>()).transpose()?, Some(vec![0.0; 4]));
/// assert_eq!(map.all_vars().len(), 2);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct Seeded {
    map: VarMap,
    seed: u64,
    choice: Option<Box<Choice>>,
}

impl Seeded {
    /// Creates a backend with this seed. It follows all hints of candle's initialisation.
    pub fn new(map: &VarMap, seed: u64) -> Self {
        Seeded { map: map.clone(), seed, choice: None }
    }

    /// Sets a function that is called with each tensor's name, shape and hint. A returned `Some` replaces the hint.
    pub fn choose(self, choice: impl Fn(&str, &Shape, &Init) -> Option<Own> + Send + Sync + 'static) -> Self {
        Seeded { choice: Some(Box::new(choice)), ..self }
    }

    /// Converts this backend to the [`VarBuilder`] that models are built with.
    pub fn var_builder(self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self), dtype, device.clone())
    }
}

impl SimpleBackend for Seeded {
    fn get(&self, s: Shape, name: &str, h: Init, dtype: DType, dev: &Device) -> candle_core::Result<Tensor> {
        // The map itself handles variables that it already contains, and types that are not floats.
        if SimpleBackend::contains_tensor(&self.map, name) || !dtype.is_float() {
            return self.map.get(s, name, h, dtype, dev);
        }
        let chosen = self.choice.as_ref().and_then(|choice| choice(name, &s, &h));
        let init = chosen.unwrap_or_else(|| of_hint(&h, &s));
        let made = var(&init, s.clone(), Stream::named(self.seed, name), dtype, dev);
        let made = made.map_err(|error| candle_core::Error::from(error).context(format!("variable {name}")))?;
        let mut vars = self.map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // If another thread inserted the variable first, the values from that thread are kept.
        vars.entry(name.to_string()).or_insert(made);
        drop(vars);
        self.map.get(s, name, h, dtype, dev)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> candle_core::Result<Tensor> {
        self.map.get_unchecked(name, dtype, dev)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        SimpleBackend::contains_tensor(&self.map, name)
    }
}
