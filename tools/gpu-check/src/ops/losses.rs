//! The cross-entropy, without and with its gradient.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda::cross_entropy::Targets;
use evenkeel::cuda::cudarc::driver::CudaSlice;
use evenkeel::{Loss, Reduction, cuda};

const WAYS: &[&str] = &["the mean", "a loss a row", "smoothed labels and a z-loss", "a softcap"];

fn options(way: usize) -> evenkeel::CrossEntropy<'static> {
    let options = evenkeel::CrossEntropy::default();
    match way {
        0 => options,
        1 => options.reduction(Reduction::None),
        2 => options.label_smoothing(0.1).z_loss(1e-4),
        _ => options.softcap(30.0),
    }
}

/// Returns a target class for each row. One row in seven has the ignored index instead.
fn targets(shape: Shape) -> Vec<i64> {
    let ignored = evenkeel::CrossEntropy::default().ignore_index;
    let class = |row: usize| if row % 7 == 3 { ignored } else { ((row + 1) * 7919 % shape.cols) as i64 };
    (0..shape.rows).map(class).collect()
}

/// Returns the gradients of the losses.
fn derivatives(shape: Shape, way: usize) -> Vec<f64> {
    let count = if options(way).reduction == Reduction::None { shape.rows } else { 1 };
    (0..count).map(|i| 1.0 - (i % 3) as f64 * 0.75).collect()
}

fn words(loss: &[f64]) -> Vec<u64> {
    let canonical = |loss: &f64| if loss.is_nan() { f64::NAN } else { *loss }.to_bits();
    loss.iter().map(canonical).collect()
}

/// State of a call on the device, with or without gradients.
struct Losses {
    stream: Stream,
    shape: Shape,
    way: usize,
    targets: CudaSlice<i64>,
    derivatives: Option<CudaSlice<f64>>,
    losses: CudaSlice<f64>,
}

impl Losses {
    fn new(stream: &Stream, shape: Shape, way: usize, has_gradient: bool) -> Result<Self> {
        let derivatives = derivatives(shape, way);
        Ok(Losses {
            stream: stream.clone(),
            shape,
            way,
            targets: stream.clone_htod(&targets(shape))?,
            losses: stream.alloc_zeros(derivatives.len())?,
            derivatives: if has_gradient { Some(stream.clone_htod(&derivatives)?) } else { None },
        })
    }
}

impl<E: Number> Ready<E> for Losses {
    fn launch(&mut self, read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        let (logits, targets) = (read[0].rows(self.shape)?, Targets::new(self.targets.as_view()));
        let (losses, options) = (self.losses.as_view_mut(), options(self.way));
        match &self.derivatives {
            Some(derivatives) => {
                let (derivatives, to) = (derivatives.as_view(), written[0].rows_mut(self.shape)?);
                cuda::cross_entropy_backward_into(&self.stream, logits, &targets, derivatives, losses, to, &options)?;
            }
            None => cuda::cross_entropy_into(&self.stream, logits, &targets, losses, &options)?,
        }
        Ok(())
    }

    fn words(&self) -> Result<Vec<u64>> {
        Ok(words(&self.stream.clone_dtoh(&self.losses)?))
    }
}

pub struct CrossEntropy;

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const READ: &'static [Extent] = &[Extent::Whole];
    const WRITTEN: &'static [Extent] = &[];
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = WAYS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let loss: Loss = evenkeel::cross_entropy(rows(&read[0], shape)?, &targets(shape), &options(way))?;
        Ok(Results { written: Vec::new(), words: words(loss.as_slice()) })
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        Losses::new(stream, shape, way, false)
    }
}

pub struct CrossEntropyBackward;

impl Op for CrossEntropyBackward {
    const NAME: &'static str = "cross_entropy_backward";
    const READ: &'static [Extent] = &[Extent::Whole];
    const WRITTEN: &'static [Extent] = &[Extent::Whole];
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = WAYS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let (logits, derivatives) = (rows(&read[0], shape)?, derivatives(shape, way));
        let (loss, dlogits) = evenkeel::cross_entropy_backward(logits, &targets(shape), &derivatives, &options(way))?;
        Ok(Results { written: vec![dlogits], words: words(loss.as_slice()) })
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        Losses::new(stream, shape, way, true)
    }
}
