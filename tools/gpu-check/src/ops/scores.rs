//! Softmax, log_softmax, logsumexp and their gradients, with and without masks.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::testing::hostile::scattered;
use evenkeel::{FullyMasked, Mask, cuda};

const POLICIES: &[&str] =
    &["fully masked rows are zeros", "fully masked rows are uniform", "fully masked rows are errors"];

fn policy(way: usize) -> evenkeel::Softmax<'static> {
    let policy = [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error][way];
    evenkeel::Softmax::default().fully_masked(policy)
}

const MASKS: &[&str] = &[
    "causal",
    "window",
    "keep flags",
    "bias",
    "lengths",
    "scale and softcap",
    "all at once",
    "scale and keep flags",
    "scale and causal",
    "scale, and a bias of each row",
];

/// Parts of the mask for one form of the call. `None` stands for a part that this form does not use.
struct Parts {
    keep: Option<Vec<u8>>,
    bias: Option<Vec<f32>>,
    lengths: Option<Vec<usize>>,
    is_causal: bool,
    window: Option<usize>,
}

impl Parts {
    fn new(shape: Shape, way: usize) -> Self {
        let has = |which: usize| way == which || way == 6;
        let bias = |i: usize| if i % 5 == 3 { f32::NEG_INFINITY } else { (scattered(i) * 8.0) as f32 };
        let biases = if way == 9 { shape.elements() } else { shape.cols };
        Parts {
            keep: (has(2) || way == 7).then(|| (0..shape.elements()).map(|i| u8::from(scattered(i) < 0.8)).collect()),
            bias: (has(3) || way == 9).then(|| (0..biases).map(bias).collect()),
            lengths: has(4).then(|| (0..shape.rows).map(|row| ((row + 1) * 7919) % (shape.cols + 1)).collect()),
            is_causal: has(0) || has(1) || way == 8,
            window: has(1).then_some(shape.cols / 2 + 1),
        }
    }
}

fn options(way: usize) -> evenkeel::Softmax<'static> {
    let options = evenkeel::Softmax::default();
    match way {
        5 | 6 => options.scale(0.125).softcap(30.0),
        // The scale of heads of 128 columns. It is not a power of two.
        7 | 9 => options.scale(0.08838834764831845),
        8 => options.scale(0.125),
        _ => options,
    }
}

impl Parts {
    fn mask(&self, shape: Shape) -> Mask<'_> {
        let mut mask = Mask::none();
        if let Some(keep) = &self.keep {
            mask = mask.and_keep(keep, &[shape.rows, shape.cols]);
        }
        if let Some(bias) = &self.bias {
            let rows = bias.len() / shape.cols.max(1);
            mask = if rows > 1 { mask.and_bias(bias, &[rows, shape.cols]) } else { mask.and_bias(bias, &[shape.cols]) };
        }
        if let Some(lengths) = &self.lengths {
            mask = mask.and_lengths(lengths);
        }
        if self.is_causal {
            mask = mask.and_causal();
        }
        if let Some(window) = self.window {
            mask = mask.and_window(window);
        }
        mask
    }
}

fn on_cpu<R>(shape: Shape, way: usize, f: impl FnOnce(&evenkeel::Softmax) -> R) -> R {
    f(&options(way).mask(&Parts::new(shape, way).mask(shape)))
}

fn on_device(stream: &Stream, shape: Shape, way: usize) -> Result<cuda::Mask<'static>> {
    Ok(cuda::Mask::copy(stream, &Parts::new(shape, way).mask(shape))?)
}

/// Converts a result to the argument type of the device's function.
macro_rules! to {
    (Whole, $to:expr, $shape:expr) => {
        $to.rows_mut($shape)?
    };
    (Rows, $to:expr, $shape:expr) => {
        $to.view_mut()
    };
}

macro_rules! plain_and_masked {
    ($($Op:ident $Masked:ident $name:ident $into:ident $masked_into:ident $extent:ident;)*) => {
        $(pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const READ: &'static [Extent] = &[Extent::Whole];
            const WRITTEN: &'static [Extent] = &[Extent::$extent];
            const WAYS: &'static [&'static str] = POLICIES;

            fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                Ok(vec![evenkeel::$name(rows(&read[0], shape)?, &policy(way))?].into())
            }

            fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
                let stream = stream.clone();
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    let to = to!($extent, written[0], shape);
                    Ok(cuda::$into(&stream, read[0].rows(shape)?, to, &policy(way))?)
                })
            }
        }

        pub struct $Masked;

        impl Op for $Masked {
            const NAME: &'static str = concat!(stringify!($name), " masked");
            const READ: &'static [Extent] = &[Extent::Whole];
            const WRITTEN: &'static [Extent] = &[Extent::$extent];
            const IS_OF_ROWS: bool = false;
            const WAYS: &'static [&'static str] = MASKS;

            fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                on_cpu(shape, way, |options| Ok(vec![evenkeel::$name(rows(&read[0], shape)?, options)?].into()))
            }

            fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
                let (stream, mask) = (stream.clone(), on_device(stream, shape, way)?);
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    let to = to!($extent, written[0], shape);
                    Ok(cuda::$masked_into(&stream, read[0].rows(shape)?, to, &mask, &options(way), None)?)
                })
            }
        })*
    };
}

plain_and_masked! {
    Softmax SoftmaxMasked softmax softmax_into softmax_masked_into Whole;
    LogSoftmax LogSoftmaxMasked log_softmax log_softmax_into log_softmax_masked_into Whole;
    LogSumExp LogSumExpMasked logsumexp logsumexp_into logsumexp_masked_into Rows;
}

/// Converts the gradient of a result to the argument type of the CPU's function.
macro_rules! from {
    (Whole, $from:expr, $shape:expr) => {
        rows(&$from, $shape)?
    };
    (Rows, $from:expr, $shape:expr) => {
        &$from
    };
}
macro_rules! placed {
    (Whole, $from:expr, $shape:expr) => {
        $from.rows($shape)?
    };
    (Rows, $from:expr, $shape:expr) => {
        $from.view()
    };
}

macro_rules! gradients {
    ($($Op:ident $Masked:ident $name:ident $into:ident $masked_into:ident $extent:ident;)*) => {
        $(pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const READ: &'static [Extent] = &[Extent::Whole, Extent::$extent];
            const WRITTEN: &'static [Extent] = &[Extent::Whole];
            const WAYS: &'static [&'static str] = POLICIES;

            fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                let (x, dy) = (rows(&read[0], shape)?, from!($extent, read[1], shape));
                Ok(vec![evenkeel::$name(x, dy, &policy(way))?].into())
            }

            fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
                let stream = stream.clone();
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    let (x, dy) = (read[0].rows(shape)?, placed!($extent, read[1], shape));
                    Ok(cuda::$into(&stream, x, dy, written[0].rows_mut(shape)?, &policy(way))?)
                })
            }
        }

        pub struct $Masked;

        impl Op for $Masked {
            const NAME: &'static str = concat!(stringify!($name), " masked");
            const READ: &'static [Extent] = &[Extent::Whole, Extent::$extent];
            const WRITTEN: &'static [Extent] = &[Extent::Whole];
            const IS_OF_ROWS: bool = false;
            const WAYS: &'static [&'static str] = MASKS;

            fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                let (x, dy) = (rows(&read[0], shape)?, from!($extent, read[1], shape));
                on_cpu(shape, way, |options| Ok(vec![evenkeel::$name(x, dy, options)?].into()))
            }

            fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
                let (stream, mask) = (stream.clone(), on_device(stream, shape, way)?);
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    let (x, dy) = (read[0].rows(shape)?, placed!($extent, read[1], shape));
                    let to = written[0].rows_mut(shape)?;
                    Ok(cuda::$masked_into(&stream, x, dy, to, &mask, &options(way), None)?)
                })
            }
        })*
    };
}

gradients! {
    SoftmaxBackward SoftmaxBackwardMasked softmax_backward softmax_backward_into softmax_backward_masked_into Whole;
    LogSoftmaxBackward LogSoftmaxBackwardMasked log_softmax_backward log_softmax_backward_into
        log_softmax_backward_masked_into Whole;
    LogSumExpBackward LogSumExpBackwardMasked logsumexp_backward logsumexp_backward_into
        logsumexp_backward_masked_into Rows;
}
