//! New module of tract: the masked softmax, computed by Evenkeel.

use evenkeel::{Element, Flags, LanesMut, Mask, Softmax};
use tract_nnef::internal::*;

/// Computes the softmax of the scaled and masked scores along the last axis. In a fully masked row, all results are 0.
///
/// The mask holds flags or numbers. A flag `false` masks a score, and a number is added to the scaled score.
pub fn scaled_masked_softmax(scores: TValue, mask: &Tensor, scale: f64) -> TractResult<Tensor> {
    let mut scores = scores.into_tensor();
    match scores.datum_type() {
        DatumType::F64 => in_place::<f64>(&mut scores, mask, scale)?,
        DatumType::F32 => in_place::<f32>(&mut scores, mask, scale)?,
        DatumType::F16 => in_place::<f16>(&mut scores, mask, scale)?,
        dt => bail!("unsupported type {dt:?}"),
    }
    Ok(scores)
}

fn in_place<E: Datum + Element>(scores: &mut Tensor, mask: &Tensor, scale: f64) -> TractResult<()> {
    let shape: TVec<usize> = scores.shape().into();
    let values = mask.try_as_plain()?;
    let mask = if mask.datum_type() == bool::datum_type() {
        Mask::keep(Flags::from(values.as_slice::<bool>()?), mask.shape())
    } else {
        Mask::bias(E::floats(values.as_slice::<E>()?), mask.shape())
    };
    let mut plain = scores.try_as_plain_mut()?;
    let rows = LanesMut::shaped(plain.as_slice_mut::<E>()?, &shape, -1)?;
    evenkeel::softmax_in_place(rows, &Softmax::default().scale(scale).mask(&mask))?;
    Ok(())
}
