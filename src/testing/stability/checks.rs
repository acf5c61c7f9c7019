//! The individual stability checks.

use super::report::{Check, Report};
use super::{Inputs, StabilityTester};
use crate::candle::guarded;
use crate::candle::init::Seeded;
use crate::candle::optim::AdamW;
use crate::ops::inspect::Stats;
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{Optimizer, ParamsAdamW, VarBuilder, VarMap};
use std::collections::HashMap;
use std::fmt::Display;

/// Allowed range of the output's standard deviation, for ordinary input.
const SCALES: (f64, f64) = (1e-3, 1e3);

const INITIALISE: &str = "initialise parameters by the size of their layer";
const BOUND: &str = "limit the arguments of exp and of divisions, use an eps that the type represents, and guard masks";
const GRADIENT: &str = "use the parameter in the module, or remove the op that blocks its gradient";
const CLIP: &str = "clip gradients by their norm, or scale the values that make them large";
const WIDE: &str = "compute sums, norms and losses in f32";

/// Runs all checks.
pub fn all<B, M>(of: &StabilityTester<B>, report: &mut Report)
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    let mut subject = match Subject::new(of, DType::F32, None) {
        Ok(subject) => subject,
        Err(error) => return report.add(Check::Initialisation, DType::F32, "fix the module's construction", error),
    };
    let refused = "make the module accept this input";
    let attempt = |check, dtype, done: Result<()>, report: &mut Report| {
        if let Err(error) = done {
            report.add(check, dtype, refused, error);
        }
    };
    let done = initialisation(&subject, report);
    attempt(Check::Initialisation, DType::F32, done, report);
    let done = hostile_input(&subject, report);
    attempt(Check::HostileInput, DType::F32, done, report);
    let done = gradient_flow(&subject, report);
    attempt(Check::GradientFlow, DType::F32, done, report);
    for &dtype in &of.dtypes {
        let done = half_precision(&subject, dtype, report);
        attempt(Check::HalfPrecision, dtype, done, report);
    }
    let done = training(&mut subject, report);
    attempt(Check::Training, DType::F32, done, report);
}

/// A module with its parameters.
struct Subject<'a, B, M> {
    of: &'a StabilityTester<B>,
    module: M,
    /// Parameters, sorted by name.
    vars: Vec<(String, Var)>,
    dtype: DType,
}

impl<'a, B, M> Subject<'a, B, M>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    /// Builds the module with the parameters `vars`, or with new parameters if `vars` is `None`.
    fn new(of: &'a StabilityTester<B>, dtype: DType, vars: Option<&[(String, Var)]>) -> Result<Self> {
        let (map, device) = (VarMap::new(), Device::Cpu);
        let vb = match vars {
            None => Seeded::new(&map, of.seed).var_builder(dtype, &device),
            Some(vars) => {
                let tensors = vars.iter().map(|(name, var)| Ok((name.clone(), var.to_dtype(dtype)?)));
                VarBuilder::from_tensors(tensors.collect::<Result<HashMap<_, _>>>()?, dtype, &device)
            }
        };
        let module = (of.build)(vb)?;
        let made = map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut vars: Vec<(String, Var)> = made.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        drop(made);
        Ok(Subject { of, module, vars, dtype })
    }

    /// Returns ordinary input: tokens, or numbers in the module's type.
    fn input(&self) -> Result<Tensor> {
        let input = self.of.inputs.ordinary(self.of.seed)?;
        if let Inputs::Numbers(_) = self.of.inputs { input.to_dtype(self.dtype) } else { Ok(input) }
    }

    fn hostile(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let magnitude = self.of.magnitude;
        let magnitude = if self.dtype == DType::F16 { magnitude.sqrt() } else { magnitude };
        self.of.inputs.hostile(magnitude, self.dtype)
    }

    fn loss(&self, output: &Tensor) -> Result<Tensor> {
        match &self.of.loss {
            Some(loss) => loss(output),
            None => output.to_dtype(DType::F32)?.sqr()?.mean_all(),
        }
    }

    /// Returns whether all elements of an output, a loss or a gradient are finite. If not, adds a finding.
    fn is_finite(
        &self,
        check: Check,
        what: impl Display,
        xs: &Tensor,
        remedy: &'static str,
        report: &mut Report,
    ) -> Result<bool> {
        let found = guarded::finite(xs)?;
        if !found.is_finite() {
            let what = format!("{what}: {} NaN and {} infinite of {} elements", found.nan, found.infinite, found.count);
            report.add(check, self.dtype, remedy, what);
        }
        Ok(found.is_finite())
    }
}

fn initialisation<B, M>(subject: &Subject<'_, B, M>, report: &mut Report) -> Result<()>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    let mut add = |what: String| report.add(Check::Initialisation, subject.dtype, INITIALISE, what);
    for (name, var) in &subject.vars {
        let Stats { nan, infinite, min, max, .. } = guarded::inspect(var)?;
        if nan + infinite > 0 {
            add(format!("{name} is initialised with {nan} NaN and {infinite} infinite elements"));
        } else if var.rank() > 1 && var.elem_count() > 1 && min == max {
            add(format!("{name} is initialised to {min} everywhere, so all of its rows learn the same"));
        }
    }
    let Stats { std, .. } = guarded::inspect(&subject.module.forward(&subject.input()?)?)?;
    let (low, high) = SCALES;
    if !(low..=high).contains(&std) {
        add(format!("ordinary input gives output with standard deviation {std:.3e}, outside {low:e} to {high:e}"));
    }
    Ok(())
}

fn hostile_input<B, M>(subject: &Subject<'_, B, M>, report: &mut Report) -> Result<()>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    for (name, input) in subject.hostile()? {
        let output = subject.module.forward(&input)?;
        let check = Check::HostileInput;
        if !subject.is_finite(check, format_args!("output of {name}"), &output, BOUND, report)? {
            continue;
        }
        let loss = subject.loss(&output)?;
        if !subject.is_finite(check, format_args!("loss of {name}"), &loss, WIDE, report)? {
            continue;
        }
        let grads = loss.sum_all()?.backward()?;
        for (parameter, var) in &subject.vars {
            if let Some(grad) = grads.get(var) {
                subject.is_finite(check, format_args!("gradient of {parameter} for {name}"), grad, BOUND, report)?;
            }
        }
    }
    Ok(())
}

fn gradient_flow<B, M>(subject: &Subject<'_, B, M>, report: &mut Report) -> Result<()>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    let loss = subject.loss(&subject.module.forward(&subject.input()?)?)?;
    let grads = loss.sum_all()?.backward()?;
    let mut squares = 0.0;
    for (name, var) in &subject.vars {
        let check = Check::GradientFlow;
        let Some(grad) = grads.get(var) else {
            report.add(check, subject.dtype, GRADIENT, format!("{name} has no gradient"));
            continue;
        };
        if !subject.is_finite(check, format_args!("gradient of {name}"), grad, BOUND, report)? {
            continue;
        }
        let Stats { count, mean, std, max_abs, .. } = guarded::inspect(grad)?;
        if max_abs == 0.0 {
            report.add(check, subject.dtype, GRADIENT, format!("the gradient of {name} is 0"));
        }
        squares += count as f64 * (mean * mean + std * std);
    }
    let (norm, limit) = (squares.sqrt(), subject.of.norm);
    if norm > limit {
        let what = format!("the gradient norm is {norm:.3e}, above the limit {limit}");
        report.add(Check::GradientFlow, subject.dtype, CLIP, what);
    }
    Ok(())
}

fn half_precision<B, M>(wide: &Subject<'_, B, M>, dtype: DType, report: &mut Report) -> Result<()>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    let narrow = Subject::new(wide.of, dtype, Some(&wide.vars))?;
    let loss = |subject: &Subject<'_, B, M>| {
        let output = subject.module.forward(&subject.input()?)?;
        let loss = subject.loss(&output)?;
        Ok::<_, candle_core::Error>((output, loss.to_dtype(DType::F32)?.sum_all()?))
    };
    let check = Check::HalfPrecision;
    let (output, got) = loss(&narrow)?;
    if narrow.is_finite(check, "output of ordinary input", &output, WIDE, report)?
        && narrow.is_finite(check, "loss of ordinary input", &got, WIDE, report)?
    {
        let (_, expected) = loss(wide)?;
        let (got, expected) = (f64::from(got.to_scalar::<f32>()?), f64::from(expected.to_scalar::<f32>()?));
        let (difference, limit) = ((got - expected).abs() / expected.abs(), wide.of.difference);
        if difference > limit {
            let what =
                format!("the loss is {got:.4}, in f32 {expected:.4}: a difference of {difference:.3}, above {limit}");
            report.add(check, dtype, WIDE, what);
        }
    }
    for (name, input) in narrow.hostile()? {
        let output = narrow.module.forward(&input)?;
        narrow.is_finite(check, format_args!("output of {name}"), &output, BOUND, report)?;
    }
    Ok(())
}

fn training<B, M>(subject: &mut Subject<'_, B, M>, report: &mut Report) -> Result<()>
where
    B: Fn(VarBuilder<'_>) -> Result<M>,
    M: Module,
{
    let vars: Vec<Var> = subject.vars.iter().map(|(_, var)| var.clone()).collect();
    if vars.is_empty() {
        return Ok(());
    }
    let mut optimizer = AdamW::new(vars.clone(), ParamsAdamW { lr: subject.of.learning_rate, ..Default::default() })?;
    let input = subject.input()?;
    let mut first = None;
    for step in 0..subject.of.steps {
        let loss = subject.loss(&subject.module.forward(&input)?)?.sum_all()?;
        let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        let first = *first.get_or_insert(value);
        if !value.is_finite() || value.abs() > 10.0 * first.abs().max(1.0) {
            let what = format!("after {step} steps the loss is {value:.4}; at first it was {first:.4}");
            report.add(Check::Training, subject.dtype, CLIP, what);
            return Ok(());
        }
        optimizer.step(&loss.backward()?)?;
    }
    for (name, var) in &subject.vars {
        subject.is_finite(
            Check::Training,
            format_args!("{name} after {} steps", subject.of.steps),
            var,
            CLIP,
            report,
        )?;
    }
    Ok(())
}
