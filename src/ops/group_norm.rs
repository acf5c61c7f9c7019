//! Group normalisation.

use super::softmax::finish_call;
use super::{same_lanes, valid_eps};
use crate::cpu;
use crate::cpu::group_norm::Layout;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::rows::{Geometry, Lanes, LanesMut, Rows, RowsMut};
use crate::simd::new_vec;

/// Options of [`group_norm`].
///
/// ```
/// use evenkeel::GroupNorm;
/// let (weight, bias) = ([1.0f32; 64], [0.0f32; 64]);
/// let unet = GroupNorm::new(32).weight(&weight).bias(&bias).eps(1e-6);
/// let instance = GroupNorm::new(64); // for 64 channels: each channel is a group
/// # let _ = (unet, instance);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GroupNorm<'a> {
    /// Number of groups of channels. At least 1; it must divide the number of channels.
    pub groups: usize,
    /// Factors that the normalised values are multiplied by, one for each channel, of any float type; ones by default.
    pub weight: Option<Floats<'a>>,
    /// Numbers added after the multiplication by the weight, one for each channel, of any float type; zeros by default.
    pub bias: Option<Floats<'a>>,
    /// Number added to the variance, in f64. Finite, not negative; 1e-5 by default.
    pub eps: f64,
}

impl<'a> GroupNorm<'a> {
    /// Creates options with the given number of groups, without weight and bias.
    pub fn new(groups: usize) -> Self {
        GroupNorm { groups, weight: None, bias: None, eps: 1e-5 }
    }

    /// Sets [`GroupNorm::weight`].
    pub fn weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { weight: Some(weight.into()), ..self }
    }

    /// Sets [`GroupNorm::bias`].
    pub fn bias(self, bias: impl Into<Floats<'a>>) -> Self {
        Self { bias: Some(bias.into()), ..self }
    }

    /// Sets [`GroupNorm::eps`].
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Checks the options against the number of channels.
    pub(crate) fn check(&self, channels: usize) -> Result<()> {
        let GroupNorm { groups, weight, bias, eps } = *self;
        for (argument, operand) in [("weight", weight), ("bias", bias)] {
            if let Some(values) = operand.filter(|values| values.len() != channels) {
                let got = values.len();
                let expected = format!("one for each of {channels} channels");
                return Err(Error::shape(OP, argument, format!("{got} elements"), expected));
            }
        }
        if groups == 0 {
            return Err(Error::invalid(OP, "groups", groups, "at least 1"));
        }
        if !channels.is_multiple_of(groups) {
            let expected = format!("a multiple of the {groups} groups");
            return Err(Error::shape(OP, "x", format!("{channels} channels"), expected));
        }
        valid_eps(OP, eps)
    }

    /// Returns the kernel for these options. The kernel's rows are groups or, if `whole` is true, batch entries with
    /// all their groups.
    fn resolve(&self, x: &Geometry, whole: bool) -> Result<cpu::group_norm::GroupNorm<'a>> {
        self.check(x.len())?;
        let GroupNorm { groups, weight, bias, eps } = *self;
        let groups_a_row = if whole { groups } else { 1 };
        let layout = Layout { groups, groups_a_row, channels: x.len() / groups, inner: x.inner() };
        Ok(cpu::group_norm::GroupNorm { weight, bias, eps, layout })
    }
}

const OP: &str = "group_norm";

/// Applies group normalisation: splits the channels of each batch entry into groups, and normalises each group over all
/// of its elements.
///
/// # Formula
/// ```text
/// y = (x - mean) / sqrt(var + eps) * weight_c + bias_c,   var = mean((x - mean)^2)
/// ```
/// Here c is the channel of the element x. Both means are taken over the elements of the group that contains c.
///
/// # Shapes
/// `x` is `[batch, channels, inner]`, viewed as lanes along the channels. For a tensor `[N, C, ..]`, create the lanes
/// by [`Lanes::shaped`] with axis 1. For a tensor `[N, C]`, pass its [`Rows`]. Weight and bias are `[channels]`. The
/// result has as many elements as `x`, without gaps.
///
/// # Special values
/// | group | y |
/// |---|---|
/// | a NaN or an infinity | NaN in this group only |
/// | all equal | the bias |
/// | values that differ little, such as 1e6 to 1e6+3 | correct: the subtracted mean is stored as two f64 |
/// | values whose squares overflow or underflow in their type | correct: squared in f64; f64 values are scaled first |
/// | no elements | empty |
///
/// # Accuracy
/// Bounds are as in [`layer_norm`](crate::layer_norm()), with the elements of a group in place of columns. f32: 0.501
/// ULP of the largest of the weighted value, the bias and the result. f16, bf16: 0.51 ULP of the largest of these
/// three. f64: 32 ULP of the largest of four magnitudes: these three and the weight. For groups whose sum is not exact
/// in f64, the bounds hold if a weighted value below a minimum is replaced by this minimum, as in `layer_norm`.
///
/// Sums are [tiled sums](crate::math::sum), so the bits of a group do not depend on its position, the thread count or
/// the instruction set.
///
/// # Errors
/// [`Error::ShapeMismatch`] if `groups` does not divide the number of channels, or for a weight or bias of another
/// length; [`Error::InvalidArgument`] if `groups` is 0, or if eps is negative or not finite; [`Error::Unavailable`] if
/// the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Source
/// Wu and He, "Group normalization", 2018.
///
/// # Example
/// ```
/// use evenkeel::{GroupNorm, Lanes, group_norm};
/// // Two channels of two elements. Each channel is a group. In f32, E[x^2] - E[x]^2 of the first group would be 0 or
/// // negative.
/// let x = Lanes::shaped(&[40000.0f32, 40001.0, 1.0, 3.0], &[1, 2, 2], 1)?;
/// assert_eq!(group_norm(x, &GroupNorm::new(2).eps(0.0))?, [-1.0, 1.0, -1.0, 1.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn group_norm<'x, E: Element>(x: impl Into<Lanes<'x, E>>, options: &GroupNorm<'_>) -> Result<Vec<E>> {
    let x = x.into();
    new_vec(OP, x.geometry.shape.elements(), |out| {
        group_norm_into(x, LanesMut::shaped(out, x.geometry.shape.dims(), x.geometry.axis as isize)?, options)
    })
}

/// Writes the result of [`group_norm`] to `out`, which has the shape of `x`, and returns `out` as an initialised slice.
pub fn group_norm_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<LanesMut<'a, E>>,
    options: &GroupNorm<'_>,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let whole = !(x.geometry.is_dense() && out.geometry.is_dense());
    let kernel = options.resolve(&x.geometry, whole)?;
    let (rows, cols) = rows(&x.geometry, &kernel.layout);
    let from = Rows::strided(x.data, rows, cols, stride(&x.geometry, cols, whole))?;
    let to = RowsMut::strided(out.data, rows, cols, stride(&out.geometry, cols, whole))?;
    let (written, guards) = E::group_norm(from.into(), to.into(), kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`group_norm`].
pub fn group_norm_in_place<'a, E: Element>(x: impl Into<LanesMut<'a, E>>, options: &GroupNorm<'_>) -> Result<()> {
    let x = x.into();
    let whole = !x.geometry.is_dense();
    let kernel = options.resolve(&x.geometry, whole)?;
    let (rows, cols) = rows(&x.geometry, &kernel.layout);
    let rows = RowsMut::strided(x.data, rows, cols, stride(&x.geometry, cols, whole))?;
    let guards = E::group_norm_in_place(OP, rows.into(), kernel)?;
    finish_call(OP, guards)
}

/// Returns the number of rows and the number of columns that the kernel processes. Usually, a row is a group. If there
/// are gaps between batch entries, a row is a batch entry.
fn rows(x: &Geometry, layout: &Layout) -> (usize, usize) {
    let Layout { groups, groups_a_row, channels, inner } = *layout;
    // Without channels, any number of groups is valid, even a huge one. One empty row for each batch entry is then
    // enough.
    let rows_each = if channels == 0 { 1 } else { groups / groups_a_row };
    (x.outer() * rows_each, groups_a_row * channels * inner)
}

fn stride(x: &Geometry, cols: usize, whole: bool) -> usize {
    if whole { x.stride.max(cols) } else { cols }
}
