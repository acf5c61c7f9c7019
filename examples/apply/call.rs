//! Validated jobs. Before an op runs, all names are looked up in the op table and in the input file.

use crate::answer::Failure;
use crate::jobs::{Job, Members};
use crate::ops::{self, Op};
use crate::tensors::{Input, MaskInput, MaskPart, Output, Values, read};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Result of a job, or its failure.
pub type Result<T> = std::result::Result<T, Failure>;

/// Results of an op, each with its name. A list of tensors is stored as several results with the same name, in order.
pub type Results = Vec<(&'static str, Output)>;

/// Largest number of rows of an empty tensor. Without a limit, an op would loop over billions of empty rows.
const MOST_EMPTY_ROWS: usize = 1 << 28;

/// Job whose op, inputs, attributes, outputs and tensors have valid names.
pub struct Call<'a> {
    op: &'static Op,
    job: &'a Job,
    inputs: BTreeMap<&'a str, Vec<TensorView<'a>>>,
}

impl<'a> Call<'a> {
    /// Checks the names in a job, and adds the names of its outputs to `taken`.
    pub fn new(job: &'a Job, all: &SafeTensors<'a>, taken: &mut BTreeSet<&'a str>) -> Result<Self> {
        let op = ops::all().find(|op| op.name == job.op);
        let outputs = claim(job, op.map_or(&[], |op| op.lists), taken);
        let Some(op) = op else {
            let known: Vec<_> = ops::all().map(|op| op.name).collect();
            return Err(Failure::invalid(format!(
                "the op `{}` is unknown; it must be one of {}",
                job.op,
                known.join(", ")
            )));
        };
        known(op, "input", &job.inputs, op.inputs)?;
        known(op, "attribute", &job.attrs, op.attrs)?;
        known(op, "output", &job.outputs, op.outputs)?;
        outputs?;
        if job.outputs.iter().next().is_none() {
            return Err(Failure::invalid(format!(
                "{}: no output is requested; `outputs` must name at least one of {}",
                op.name,
                op.outputs.join(", ")
            )));
        }
        let mut inputs = BTreeMap::new();
        for (name, tensor) in job.inputs.iter() {
            let tensors = tensor_names(tensor, op.lists.contains(&name)).ok_or_else(|| {
                let expected = expected(op.lists.contains(&name));
                Failure::invalid(format!("{}: the input `{name}` is {tensor}; it must be {expected}", op.name))
            })?;
            let view = |tensor| {
                let view = all.tensor(tensor);
                view.map_err(|_| {
                    Failure::invalid(format!("{}: the tensor file `IN` has no tensor `{tensor}`", op.name))
                })
            };
            inputs.insert(name, tensors.into_iter().map(view).collect::<Result<Vec<_>>>()?);
        }
        let present = |input: &&str| inputs.contains_key(input);
        if let Some(input) = op.required.iter().find(|input| !present(input)) {
            return Err(Failure::invalid(format!("{}: the input `{input}` is missing", op.name)));
        }
        let lacks = op.needs.iter().find(|(output, input)| job.outputs.get(output).is_some() && !present(input));
        if let Some((output, input)) = lacks {
            return Err(Failure::invalid(format!("{}: the output `{output}` needs the input `{input}`", op.name)));
        }
        // A list of outputs has one tensor for each tensor of the input list.
        for list in op.lists {
            let (given, named) =
                (inputs.get(list).map_or(0, Vec::len), job.outputs.get(list).and_then(Value::as_array));
            if let Some(named) = named.filter(|named| named.len() != given) {
                let message = format!("{}: the output `{list}` has {} names; {given} are needed", op.name, named.len());
                return Err(Failure::invalid(message));
            }
        }
        Ok(Call { op, job, inputs })
    }

    /// Runs the op, and returns its results under the names that they get in the output file.
    pub fn run(&self) -> Result<Vec<(&'a str, Output)>> {
        let results = (self.op.run)(self)?;
        let mut names: BTreeMap<&str, _> = BTreeMap::new();
        for (result, value) in self.job.outputs.iter() {
            let list = self.op.lists.contains(&result);
            names.insert(result, tensor_names(value, list).unwrap_or_default().into_iter());
        }
        let named = results.into_iter().filter_map(|(result, output)| Some((names.get_mut(result)?.next()?, output)));
        Ok(named.collect())
    }

    pub fn name(&self) -> &'static str {
        self.op.name
    }

    /// Returns whether the job requests this output.
    pub fn wants(&self, output: &str) -> bool {
        self.job.outputs.get(output).is_some()
    }

    /// Returns a required float input.
    pub fn float(&self, input: &str) -> Result<Input> {
        self.optional_float(input)?
            .ok_or_else(|| Failure::invalid(format!("{}: the input `{input}` is missing", self.op.name)))
    }

    /// Returns an optional float input.
    pub fn optional_float(&self, input: &str) -> Result<Option<Input>> {
        self.single(input).map(|view| self.read(input, view)).transpose()
    }

    /// Returns a list of float inputs.
    pub fn floats(&self, input: &str) -> Result<Vec<Input>> {
        let views = self.inputs.get(input).into_iter().flatten().enumerate();
        views.map(|(i, view)| self.read(&format!("{input}[{i}]"), view)).collect()
    }

    fn read(&self, input: &str, view: &TensorView<'_>) -> Result<Input> {
        let values = Values::read(view.dtype(), view.data())
            .ok_or_else(|| self.wrong_dtype(input, view.dtype(), "F64, F32, F16 or BF16"))?;
        Ok(Input { shape: view.shape().to_vec(), values })
    }

    fn single(&self, input: &str) -> Option<&TensorView<'a>> {
        self.inputs.get(input)?.first()
    }

    /// Returns the optional input `mask`.
    pub fn mask(&self) -> Result<Option<MaskInput<'a>>> {
        let Some(view) = self.single("mask") else { return Ok(None) };
        let part = match view.dtype() {
            Dtype::BOOL | Dtype::U8 => MaskPart::Keep(view.data()),
            dtype => MaskPart::Bias(
                Values::read(dtype, view.data())
                    .ok_or_else(|| self.wrong_dtype("mask", dtype, "BOOL, U8, F64, F32, F16 or BF16"))?,
            ),
        };
        Ok(Some(MaskInput { shape: view.shape().to_vec(), part }))
    }

    /// Returns an optional I64 input with its shape. See [`Call::integers`].
    pub fn optional_integers(&self, input: &str) -> Result<Option<(Vec<usize>, Vec<i64>)>> {
        self.single(input).is_some().then(|| self.integers(input)).transpose()
    }

    /// Returns a required I64 input with its shape.
    pub fn integers(&self, input: &str) -> Result<(Vec<usize>, Vec<i64>)> {
        match self.single(input) {
            Some(view) if view.dtype() == Dtype::I64 => {
                Ok((view.shape().to_vec(), read(view.data(), i64::from_le_bytes)))
            }
            Some(view) => Err(self.wrong_dtype(input, view.dtype(), "I64")),
            None => Err(Failure::invalid(format!("{}: the input `{input}` is missing", self.op.name))),
        }
    }

    /// Returns a required input of flags, with its shape. A flag is set if its element is not zero.
    pub fn flags(&self, input: &str) -> Result<(Vec<usize>, &'a [u8])> {
        match self.single(input) {
            Some(view) if matches!(view.dtype(), Dtype::BOOL | Dtype::U8) => Ok((view.shape().to_vec(), view.data())),
            Some(view) => Err(self.wrong_dtype(input, view.dtype(), "BOOL or U8")),
            None => Err(Failure::invalid(format!("{}: the input `{input}` is missing", self.op.name))),
        }
    }

    /// Fails if the tensor has fewer than `rank` axes, or if it is empty and has more than [`MOST_EMPTY_ROWS`] rows.
    pub fn at_least_rank(&self, rank: usize, input: &str, shape: &[usize]) -> Result<()> {
        if shape.len() < rank {
            return Err(self.shape(input, shape, format!("{input} must have at least {rank} axes")));
        }
        let longest = shape.iter().filter(|&&d| d > 0).try_fold(1usize, |product, &d| product.checked_mul(d));
        if shape.contains(&0) && longest.is_none_or(|rows| rows > MOST_EMPTY_ROWS) {
            return Err(self.shape(input, shape, format!("an empty tensor must have at most {MOST_EMPTY_ROWS} rows")));
        }
        Ok(())
    }

    /// Fails unless NumPy's rules allow the mask to broadcast to the given shape.
    pub fn broadcasts(&self, mask: Option<&MaskInput<'_>>, to: &[usize]) -> Result<()> {
        let Some(mask) = mask else { return Ok(()) };
        let mut axes = mask.shape.iter().rev().zip(to.iter().rev());
        if mask.shape.len() <= to.len() && axes.all(|(&part, &whole)| part == 1 || part == whole) {
            return Ok(());
        }
        Err(self.shape("mask", &mask.shape, format!("it must broadcast to {to:?}")))
    }

    /// Fails unless the input has the shape `needed`.
    pub fn has_shape(&self, input: &str, shape: &[usize], needed: &[usize]) -> Result<()> {
        if shape == needed {
            return Ok(());
        }
        Err(self.shape(input, shape, format!("{needed:?} is needed")))
    }

    /// Creates a failure about the shape of an input.
    pub fn shape(&self, input: &str, shape: &[usize], needed: impl AsRef<str>) -> Failure {
        Failure::shape(format!("{}: {input} has shape {shape:?}; {}", self.op.name, needed.as_ref()))
    }

    fn wrong_dtype(&self, input: &str, dtype: Dtype, taken: &str) -> Failure {
        Failure::dtype(format!("{}: {input} is {dtype}; it must be {taken}", self.op.name))
    }

    /// Returns a numeric attribute. Also accepts the strings "inf", "-inf" and "nan", because JSON has no such numbers.
    pub fn number(&self, attr: &str) -> Result<Option<f64>> {
        let Some(value) = self.job.attrs.get(attr) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => match text.as_str() {
                "inf" => Some(f64::INFINITY),
                "-inf" => Some(f64::NEG_INFINITY),
                "nan" => Some(f64::NAN),
                _ => None,
            },
            _ => None,
        };
        let number = number.ok_or_else(|| self.bad_attr(attr, "a number, or \"inf\", \"-inf\" or \"nan\""))?;
        Ok(Some(number))
    }

    /// Returns a required numeric attribute.
    pub fn required_number(&self, attr: &str) -> Result<f64> {
        let missing = || Failure::invalid(format!("{}: the attribute `{attr}` is missing", self.op.name));
        self.number(attr)?.ok_or_else(missing)
    }

    /// Returns an integer attribute. It may be written as an integer or as a float, such as 2 or 2.0.
    pub fn whole(&self, attr: &str, range: RangeInclusive<i128>) -> Result<Option<i128>> {
        let Some(value) = self.job.attrs.get(attr) else { return Ok(None) };
        let exact = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
        // Accepts integral f64 below 2^65, which convert to i128 exactly. No attribute may be 2^64 or larger, so this
        // excludes no valid value.
        let float = value.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 2f64.powi(65)).map(|v| v as i128);
        let expected = || format!("a whole number in {} ..= {}", range.start(), range.end());
        match exact.or(float).filter(|v| range.contains(v)) {
            Some(whole) => Ok(Some(whole)),
            None => Err(self.bad_attr(attr, &expected())),
        }
    }

    /// Returns a boolean attribute.
    pub fn flag(&self, attr: &str) -> Result<Option<bool>> {
        let Some(value) = self.job.attrs.get(attr) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.bad_attr(attr, "true or false"))
    }

    /// Returns the choice that an attribute names. Fails if the attribute is none of the words in `choices`.
    pub fn choice<T: Copy>(&self, attr: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(value) = self.job.attrs.get(attr) else { return Ok(None) };
        let chosen = choices.iter().find(|(word, _)| value.as_str() == Some(word));
        let words = || choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        chosen.map(|(_, choice)| Some(*choice)).ok_or_else(|| self.bad_attr(attr, &words()))
    }

    /// Creates a failure about the value of an attribute.
    pub fn bad_attr(&self, attr: &str, expected: &str) -> Failure {
        let value = self.job.attrs.get(attr).unwrap_or(&Value::Null);
        Failure::invalid(format!("{}: {attr} is {value}; it must be {expected}", self.op.name))
    }
}

/// Adds the job's output names to `taken`. Fails if one of them is taken already.
fn claim<'a>(job: &'a Job, lists: &[&str], taken: &mut BTreeSet<&'a str>) -> Result<()> {
    let mut claimed = Ok(());
    for (result, value) in job.outputs.iter() {
        let list = lists.contains(&result);
        let names = tensor_names(value, list).filter(|names| !names.iter().any(|n| matches!(*n, "" | "__metadata__")));
        let new = match names {
            None => Err(Failure::invalid(format!(
                "{}: the output `{result}` is {value}; it must be {}",
                job.op,
                expected(list)
            ))),
            // Adds every name to `taken`, even if an earlier name is a duplicate.
            Some(names) => match names.into_iter().filter(|name| !taken.insert(name)).collect::<Vec<_>>()[..] {
                [name, ..] => Err(Failure::invalid(format!("{}: the output name `{name}` is used twice", job.op))),
                [] => Ok(()),
            },
        };
        claimed = claimed.and(new);
    }
    claimed
}

/// Fails if a member's name is not one of `known`.
fn known(op: &Op, kind: &str, members: &Members, known: &[&str]) -> Result<()> {
    for (name, _) in members.iter() {
        if !known.contains(&name) {
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(Failure::invalid(format!("{}: the {kind} `{name}` is unknown; accepted: {known}", op.name)));
        }
    }
    Ok(())
}

/// Returns the tensor names in a JSON value, which is a single name or, if `list` is true, a list of names.
fn tensor_names(value: &Value, list: bool) -> Option<Vec<&str>> {
    if list { value.as_array()?.iter().map(Value::as_str).collect() } else { Some(vec![value.as_str()?]) }
}

fn expected(list: bool) -> &'static str {
    if list { "an array of tensors' names" } else { "a tensor's name" }
}
