//! Softmax, log_softmax and logsumexp, with masks and without, and the gradients of the first two.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda::cudarc::driver::CudaSlice;
use evenkeel::testing::hostile::scattered;
use evenkeel::{FullyMasked, Mask, cuda};

const POLICIES: &[&str] = &["rows without logits are zeros", "they are uniform", "they are an error"];

fn policy(way: usize) -> evenkeel::Softmax<'static> {
    let policy = [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error][way];
    evenkeel::Softmax::default().fully_masked(policy)
}

const MASKS: &[&str] = &["causal", "window", "keep flags", "bias", "lengths", "scale and softcap", "all at once"];

/// What masks are of, by way: those that have not a part leave it out.
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
        Parts {
            keep: has(2).then(|| (0..shape.elements()).map(|i| u8::from(scattered(i) < 0.8)).collect()),
            bias: has(3).then(|| (0..shape.cols).map(bias).collect()),
            lengths: has(4).then(|| (0..shape.rows).map(|row| (row * 7919) % (shape.cols + 1)).collect()),
            is_causal: has(0) || has(1),
            window: has(1).then_some(shape.cols / 2 + 1),
        }
    }
}

fn options(way: usize) -> evenkeel::Softmax<'static> {
    let options = evenkeel::Softmax::default();
    if way >= 5 { options.scale(0.125).softcap(30.0) } else { options }
}

fn on_cpu<R>(shape: Shape, way: usize, f: impl FnOnce(&evenkeel::Softmax) -> R) -> R {
    let parts = Parts::new(shape, way);
    let mut mask = Mask::none();
    if let Some(keep) = &parts.keep {
        mask = mask.and_keep(keep, &[shape.rows, shape.cols]);
    }
    if let Some(bias) = &parts.bias {
        mask = mask.and_bias(bias, &[shape.cols]);
    }
    if let Some(lengths) = &parts.lengths {
        mask = mask.and_lengths(lengths);
    }
    if parts.is_causal {
        mask = mask.and_causal();
    }
    if let Some(window) = parts.window {
        mask = mask.and_window(window);
    }
    f(&options(way).mask(&mask))
}

/// The same parts, on the device.
struct OnDevice {
    keep: Option<CudaSlice<u8>>,
    bias: Option<CudaSlice<f32>>,
    lengths: Option<CudaSlice<u64>>,
    of: Parts,
    shape: Shape,
}

impl OnDevice {
    fn new(stream: &Stream, shape: Shape, way: usize) -> Result<Self> {
        let of = Parts::new(shape, way);
        let lengths = of.lengths.as_ref().map(|lengths| lengths.iter().map(|&len| len as u64).collect::<Vec<_>>());
        Ok(OnDevice {
            keep: of.keep.as_ref().map(|keep| stream.clone_htod(keep)).transpose()?,
            bias: of.bias.as_ref().map(|bias| stream.clone_htod(bias)).transpose()?,
            lengths: lengths.as_ref().map(|lengths| stream.clone_htod(lengths)).transpose()?,
            of,
            shape,
        })
    }

    fn mask(&self) -> cuda::Mask<'_> {
        let mut mask = cuda::Mask::none();
        if let Some(keep) = &self.keep {
            mask = mask.and_keep(keep.as_view(), &[self.shape.rows, self.shape.cols]);
        }
        if let Some(bias) = &self.bias {
            mask = mask.and_bias(bias.as_view(), &[self.shape.cols]);
        }
        if let Some(lengths) = &self.lengths {
            mask = mask.and_lengths(lengths.as_view());
        }
        if self.of.is_causal {
            mask = mask.and_causal();
        }
        if let Some(window) = self.of.window {
            mask = mask.and_window(window);
        }
        mask
    }
}

/// Where results go, as the functions on the device take them.
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
                let (stream, parts) = (stream.clone(), OnDevice::new(stream, shape, way)?);
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    let to = to!($extent, written[0], shape);
                    Ok(cuda::$masked_into(&stream, read[0].rows(shape)?, to, &parts.mask(), &options(way))?)
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

macro_rules! gradients {
    ($($Op:ident $name:ident $into:ident;)*) => {
        $(pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const READ: &'static [Extent] = &[Extent::Whole; 2];
            const WRITTEN: &'static [Extent] = &[Extent::Whole];
            const WAYS: &'static [&'static str] = POLICIES;

            fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                let (x, dy) = (rows(&read[0], shape)?, rows(&read[1], shape)?);
                Ok(vec![evenkeel::$name(x, dy, &policy(way))?].into())
            }

            fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
                let stream = stream.clone();
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    let (x, dy) = (read[0].rows(shape)?, read[1].rows(shape)?);
                    Ok(cuda::$into(&stream, x, dy, written[0].rows_mut(shape)?, &policy(way))?)
                })
            }
        })*
    };
}

gradients! {
    SoftmaxBackward softmax_backward softmax_backward_into;
    LogSoftmaxBackward log_softmax_backward log_softmax_backward_into;
}
