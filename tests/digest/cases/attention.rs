//! Cases of attention.

use super::{Batch, RowRange};
use evenkeel::{Attention, Element, Heads, Mask, Result, attention_backward, attention_with_lse};

/// Returns two views of the rows. The first view has the first two keys of each row, which serve as queries. The second
/// view has all keys.
fn attending<'a, E: Element>(part: &RowRange<'a, E>, width: usize) -> Result<[Heads<'a, E>; 2]> {
    let (rows, keys) = (part.range.len(), part.cols / width);
    let view = |positions| Heads::strided(part.data, [rows, 1, positions, width], [part.cols, 0, width]);
    Ok([view(keys.min(2))?, view(keys)?])
}

/// Adds cases of attention, in which each row is a batch entry with one head. The row is cut into keys of four features
/// each. The keys are also the values, and the first two keys are also the queries.
pub fn attended<E: Element>(batch: &mut Batch<'_, E>) {
    const WIDTH: usize = 4;
    let keys = batch.cols / WIDTH;
    fn options<'m>(softcap: Option<f64>, mask: &'m Mask<'m>) -> Attention<'m> {
        let mut options = Attention::default().scale(0.3).mask(mask).sinks(&[0.25f32]);
        options.softcap = softcap;
        options
    }
    let run = move |part: &RowRange<'_, E>, softcap: Option<f64>, mask: &Mask<'_>| -> Result<Vec<u64>> {
        let ([q, k], options, rows) = (attending(part, WIDTH)?, options(softcap, mask), part.range.len());
        let (y, lse) = attention_with_lse(q, k, k, &options)?;
        // Results are listed row by row, so that the results of a range of rows are a slice of the whole list.
        let row = |row: usize| {
            let of_lse = lse.chunks(lse.len() / rows).nth(row).unwrap_or(&[]).iter().map(|lse| lse.to_bits());
            y.chunks(y.len() / rows).nth(row).unwrap_or(&[]).iter().map(|y| y.bits()).chain(of_lse).collect::<Vec<_>>()
        };
        Ok((0..rows).flat_map(row).collect())
    };
    let gradients = move |part: &RowRange<'_, E>, softcap: Option<f64>, mask: &Mask<'_>| -> Result<Vec<u64>> {
        let ([q, k], options, rows) = (attending(part, WIDTH)?, options(softcap, mask), part.range.len());
        let of = attention_backward(q, k, k, q, &options)?;
        let row = |row: usize| {
            let parts = [&of.dq, &of.dk, &of.dv].map(|part| part.chunks(part.len() / rows).nth(row).unwrap_or(&[]));
            parts.concat().into_iter().map(E::bits).collect::<Vec<u64>>()
        };
        Ok((0..rows).flat_map(row).collect())
    };
    if keys > 0 {
        batch.add_words("attention", move |part| run(part, None, &Mask::none()).unwrap());
        batch.add_words("attention/causal", move |part| run(part, Some(9.0), &Mask::causal()).unwrap());
        batch.add_words("attention_backward", move |part| gradients(part, None, &Mask::none()).unwrap());
        batch.add_words("attention_backward/causal", move |part| gradients(part, Some(9.0), &Mask::causal()).unwrap());
    }
}
