//! Options of the softmax family, in a form that candle can keep for the backward pass.

#![forbid(unsafe_code)]

use crate::mask::{FullyMasked, Mask};
use crate::ops::softmax::Softmax as Options;
use std::borrow::Cow;

/// Axis and options of a call, borrowed from the caller or owned.
pub struct Scores<'a> {
    pub axis: usize,
    mask: Option<Cow<'a, Mask<'a>>>,
    scale: f64,
    softcap: Option<f64>,
    fully_masked: FullyMasked,
}

impl<'a> Scores<'a> {
    pub fn new(axis: usize, options: &Options<'a>) -> Self {
        let Options { mask, scale, softcap, fully_masked } = *options;
        Scores { axis, mask: mask.map(Cow::Borrowed), scale, softcap, fully_masked }
    }

    pub fn into_owned(self) -> Scores<'static> {
        Scores { mask: self.mask.map(|mask| Cow::Owned(mask.into_owned().into_owned())), ..self }
    }

    pub fn options(&self) -> Options<'_> {
        Options {
            mask: self.mask.as_deref(),
            scale: self.scale,
            softcap: self.softcap,
            fully_masked: self.fully_masked,
        }
    }
}
