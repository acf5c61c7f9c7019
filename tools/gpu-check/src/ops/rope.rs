//! Rotary position embedding, its gradient, and its fusion with RMSNorm.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda;

const LAYOUTS: &[&str] = &["halves", "neighbours"];

/// Makes a table for rows of 32 heads, or of two heads if the number of rows is not a multiple of 32.
fn table(shape: Shape, way: usize) -> Result<evenkeel::RopeTable> {
    let heads = if shape.rows.is_multiple_of(32) { 32 } else { 2 };
    let positions: Vec<i64> = (0..(shape.rows / heads) as i64).collect();
    let options = evenkeel::Rope::default().interleaved(way == 1);
    Ok(evenkeel::RopeTable::new(&positions, shape.cols, &options)?)
}

macro_rules! turns {
    ($($Op:ident $name:ident $into:ident;)*) => {
        $(pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const READ: &'static [Extent] = &[Extent::Whole];
            const WRITTEN: &'static [Extent] = &[Extent::Whole];
            const IS_OF_ROWS: bool = false;
            const WAYS: &'static [&'static str] = LAYOUTS;

            fn shape(shape: Shape) -> Shape {
                Shape { rows: shape.rows.next_multiple_of(2), cols: shape.cols.next_multiple_of(2) }
            }

            fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                Ok(vec![evenkeel::$name(rows(&read[0], shape)?, &table(shape, way)?)?].into())
            }

            fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
                let (stream, table) = (stream.clone(), cuda::RopeTable::new(stream, &table(shape, way)?)?);
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    Ok(cuda::$into(&stream, read[0].rows(shape)?, written[0].rows_mut(shape)?, &table)?)
                })
            }
        })*
    };
}

turns! {
    Rope rope rope_into;
    RopeBackward rope_backward rope_backward_into;
}

pub struct QkNormRope;

impl Op for QkNormRope {
    const NAME: &'static str = "qk_norm_rope";
    const READ: &'static [Extent] = &[Extent::Whole, Extent::Columns];
    const WRITTEN: &'static [Extent] = &[Extent::Whole];
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = LAYOUTS;

    fn shape(shape: Shape) -> Shape {
        // Shapes with more columns than the limit get various lengths within it.
        const MOST: usize = cuda::qk_norm_rope::MOST_COLS;
        let cols = if shape.cols <= MOST { shape.cols } else { shape.cols % MOST + 1 };
        Shape { rows: shape.rows.next_multiple_of(2), cols: cols.next_multiple_of(2) }
    }

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let options = evenkeel::RmsNorm::default().weight(&read[1]);
        Ok(vec![evenkeel::qk_norm_rope(rows(&read[0], shape)?, &table(shape, way)?, &options)?].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let (stream, table) = (stream.clone(), cuda::RopeTable::new(stream, &table(shape, way)?)?);
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let (x, weight, y) = (read[0].rows(shape)?, E::operand(read[1].view()), written[0].rows_mut(shape)?);
            Ok(cuda::qk_norm_rope_into(&stream, x, Some(weight), y, &table, &evenkeel::RmsNorm::default())?)
        })
    }
}
