//! Cross-entropy of a linear layer's output, with only one chunk of classes in memory at a time.

#![forbid(unsafe_code)]

use super::cross_entropy::{Call, cross_entropy, numbers};
use crate::candle::composition::wide;
use crate::candle::custom_op::{Custom, Memory, Op, each_memory};
use crate::candle::support::on_cpu;
use crate::candle::view::View;
use crate::error::Error;
use crate::ops::cross_entropy::CrossEntropy as Options;
use crate::ops::cross_entropy_partial::{BACKWARD, CrossEntropyPartial, CrossEntropySums};
use crate::ops::loss::Reduction;
use crate::report;
use crate::rows::{Rows, RowsMut};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor};
use std::cell::RefCell;

const NAME: &str = "linear_cross_entropy";

/// Default number of classes in a chunk.
const CHUNK: usize = 8192;

/// Computes the cross-entropy of `hidden * weight^T + bias`. `targets` has the shape of `hidden` without the last axis.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    targets: &Tensor,
    options: &Options<'_>,
    chunk: Option<usize>,
) -> Result<Tensor> {
    let has_kernel = on_cpu(hidden, NAME)?;
    let [classes, features] = check(hidden, weight, bias)?;
    let chunk = chunk.unwrap_or(CHUNK);
    if chunk == 0 {
        return Err(Error::invalid(NAME, "chunk", chunk, "at least 1").into());
    }
    let numbers = numbers(hidden, targets)?;
    options.resolve(NAME, numbers.len(), classes, &numbers)?;
    let x = counted(&hidden.reshape((numbers.len(), features))?, &numbers, options.ignore_index)?;
    let loss = if !has_kernel || classes <= chunk {
        let mut logits = x.matmul(&weight.t()?)?;
        if let Some(bias) = bias {
            logits = logits.broadcast_add(bias)?;
        }
        cross_entropy(&logits, &targets.flatten_all()?, options)?
    } else {
        let layer = Layer::new(&x, weight, bias, chunk)?;
        let call = Call::new(numbers, options);
        let op = LinearCrossEntropy { sums: layer.sums(&call)?, call, chunk };
        match bias {
            Some(bias) => x.apply_op3(weight, bias, Custom(op)),
            None => x.apply_op2(weight, Custom(op)),
        }?
    };
    if options.reduction == Reduction::None { loss.reshape(targets.shape()) } else { Ok(loss) }
}

/// Checks that the shapes and types of the operands match, and returns the numbers of classes and features.
fn check(hidden: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<[usize; 2]> {
    let &[classes, features] = weight.dims() else {
        return Err(Error::shape(NAME, "weight", format!("shape {:?}", weight.dims()), "2 axes").into());
    };
    if hidden.dims().last() != Some(&features) {
        let got = format!("shape {:?}", hidden.dims());
        return Err(
            Error::shape(NAME, "hidden", got, format!("a last axis of length {features}, to match weight")).into()
        );
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [classes]) {
        let got = format!("shape {:?}", bias.dims());
        return Err(Error::shape(NAME, "bias", got, format!("{:?}", [classes])).into());
    }
    for (argument, operand) in [("weight", Some(weight)), ("bias", bias)] {
        if let Some(operand) = operand.filter(|operand| operand.dtype() != hidden.dtype()) {
            let (got, expected) = (format!("{:?}", operand.dtype()), format!("{:?}, as hidden is", hidden.dtype()));
            return Err(Error::invalid(NAME, argument, got, expected).into());
        }
    }
    Ok([classes, features])
}

/// Replaces rows with an ignored target by zeros. Otherwise a NaN in such a row would reach the gradient of the weight.
fn counted(x: &Tensor, targets: &[i64], ignored: i64) -> Result<Tensor> {
    if !targets.contains(&ignored) {
        return Ok(x.clone());
    }
    let counts = Tensor::from_iter(targets.iter().map(|target| u8::from(*target != ignored)), x.device())?;
    counts.unsqueeze(1)?.broadcast_as(x.shape())?.where_cond(x, &x.zeros_like()?)
}

/// A linear layer whose output is computed one chunk of classes at a time, without gradient tracking.
struct Layer {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    chunk: usize,
}

impl Layer {
    fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, chunk: usize) -> Result<Self> {
        Ok(Layer { x: factor(&x.detach())?, weight: weight.detach(), bias: bias.map(Tensor::detach), chunk })
    }

    fn classes(&self) -> Result<usize> {
        self.weight.dim(0)
    }

    /// Returns the weights of the chunk whose first class is `first`.
    fn weights(&self, first: usize) -> Result<Tensor> {
        self.weight.narrow(0, first, self.chunk.min(self.classes()? - first))
    }

    /// Computes the logits of the chunk whose first class is `first`.
    fn logits(&self, first: usize) -> Result<Tensor> {
        let weights = self.weights(first)?;
        let product = self.x.matmul(&factor(&weights)?.t()?)?.to_dtype(weights.dtype())?;
        match &self.bias {
            Some(bias) => product.broadcast_add(&bias.narrow(0, first, weights.dim(0)?)?),
            None => Ok(product),
        }
    }

    /// Computes the sums of the cross-entropy over all classes, chunk by chunk. A first pass finds each row's maximum.
    /// A second pass adds the exponentials, relative to this maximum.
    fn sums(&self, call: &Call) -> Result<CrossEntropySums> {
        let (classes, targets, options) = (self.classes()?, &call.targets, &call.options());
        let find = |first: usize| {
            visit(&self.logits(first)?, |memory, rows, cols| {
                Ok(each_memory!(memory, data => {
                    CrossEntropyPartial::new(Rows::new(data, rows, cols)?, (first, classes), targets, options)?
                }))
            })
        };
        let mut partial = find(0)?;
        for first in (0..classes).step_by(self.chunk).skip(1) {
            partial.merge(find(first)?)?;
        }
        let add = |first: usize| {
            visit(&self.logits(first)?, |memory, rows, cols| {
                Ok(each_memory!(memory, data => partial.sums(Rows::new(data, rows, cols)?, first, targets, options)?))
            })
        };
        let mut sums = add(0)?;
        for first in (0..classes).step_by(self.chunk).skip(1) {
            sums.merge(add(first)?)?;
        }
        Ok(sums)
    }
}

/// Converts bf16 to f32 before candle's matrix product. The product itself would convert the whole storage of its
/// operands: all weights for each chunk.
fn factor(xs: &Tensor) -> Result<Tensor> {
    if xs.dtype() == DType::BF16 { xs.to_dtype(DType::F32) } else { Ok(xs.clone()) }
}

/// Calls `f` with a chunk of logits: its elements, its number of rows and its number of columns. Returns the result of
/// `f`. `f` may overwrite the elements.
fn visit<T>(logits: &Tensor, f: impl FnMut(Memory<'_>, usize, usize) -> Result<T>) -> Result<T> {
    let visit = Visit { f: RefCell::new(f), result: RefCell::new(None) };
    logits.inplace_op1(&visit)?;
    visit.result.into_inner().ok_or_else(|| candle_core::Error::RequiresContiguous { op: NAME }.bt())
}

struct Visit<F, T> {
    f: RefCell<F>,
    result: RefCell<Option<T>>,
}

impl<T, F: FnMut(Memory<'_>, usize, usize) -> Result<T>> InplaceOp1 for Visit<F, T> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (rows, cols) = layout.shape().dims2()?;
        let made = (self.f.borrow_mut())(Memory::of(storage, layout, NAME)?, rows, cols)?;
        self.result.replace(Some(made));
        Ok(())
    }
}

/// Op whose arguments are the rows of `hidden`, the weight and optionally the bias. `sums` must have been computed from
/// the same arguments.
struct LinearCrossEntropy {
    sums: CrossEntropySums,
    call: Call,
    chunk: usize,
}

impl Op for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let loss = self.sums.loss(&self.call.targets, &self.call.options())?;
        let loss = loss.as_slice();
        let shape = if self.call.options().reduction == Reduction::None { loss.len().into() } else { Shape::from(()) };
        let loss = match args[0].dtype() {
            DType::F64 => CpuStorage::F64(loss.to_vec()),
            _ => CpuStorage::F32(loss.iter().map(|v| *v as f32).collect()),
        };
        Ok((loss, shape))
    }

    /// Computes the logits of each chunk again and replaces them by their gradient. Candle's matrix products then
    /// convert the gradient of the logits to the gradients of the arguments.
    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (targets, options) = (&self.call.targets, &self.call.options());
        let dloss: Vec<f64> = grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let (x, weight, bias) = (args[0], args[1], args.get(2).filter(|bias| bias.track_op()));
        let layer = Layer::new(x, weight, args.get(2).copied(), self.chunk)?;
        let wide_x = wide(&x.detach())?;
        let zeros =
            |of: &Tensor, dtype| of.track_op().then(|| Tensor::zeros(of.shape(), dtype, &Device::Cpu)).transpose();
        let (mut dx, dweight) = (zeros(x, DType::F64)?, zeros(weight, weight.dtype())?);
        let mut dbias = Vec::new();
        for first in (0..layer.classes()?).step_by(self.chunk) {
            let dlogits = layer.logits(first)?;
            let counts = visit(&dlogits, |memory, rows, cols| {
                Ok(each_memory!(memory, data => {
                    self.sums.unreported_in_place(RowsMut::new(data, rows, cols)?, first, targets, &dloss, options)?
                }))
            })?;
            if first == 0 {
                report::record(BACKWARD, counts);
            }
            let dlogits = wide(&dlogits)?;
            if let Some(dx) = &mut dx {
                let product = dlogits.matmul(&wide(&layer.weights(first)?)?)?;
                *dx = (&*dx + product.to_dtype(DType::F64)?)?;
            }
            if let Some(dweight) = &dweight {
                dweight.slice_set(&dlogits.t()?.matmul(&wide_x)?.to_dtype(weight.dtype())?, 0, first)?;
            }
            if bias.is_some() {
                dbias.push(dlogits.sum(0)?.to_dtype(weight.dtype())?);
            }
        }
        let dbias = bias.map(|_| Tensor::cat(&dbias, 0)).transpose()?;
        Ok(vec![dx.map(|dx| dx.to_dtype(x.dtype())).transpose()?, dweight, dbias])
    }
}
