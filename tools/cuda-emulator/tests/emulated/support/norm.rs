//! Common parts of the cases for norms: operands of any type, and rows and operands that cover every path.

use super::{Guarded, Kind, row};
use evenkeel::cuda::TypedDevicePtr;
use evenkeel::{DType, Element, Floats};
use half::{bf16, f16};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Operand with one number per column.
#[derive(Clone)]
pub enum Operand {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// Operand in memory that kernels read.
pub enum Placed {
    F32(Guarded<f32>),
    F16(Guarded<f16>),
    BF16(Guarded<bf16>),
}

impl Operand {
    pub fn of(dtype: DType, numbers: &[f64]) -> Self {
        fn rounded<E: Element>(numbers: &[f64]) -> Vec<E> {
            numbers.iter().map(|&number| E::from_wide(number)).collect()
        }
        match dtype {
            DType::F32 => Operand::F32(rounded(numbers)),
            DType::F16 => Operand::F16(rounded(numbers)),
            DType::BF16 => Operand::BF16(rounded(numbers)),
            other => panic!("an operand on a device must be F32, F16 or BF16, got {other}"),
        }
    }

    pub fn floats(&self) -> Floats<'_> {
        match self {
            Operand::F32(values) => values.into(),
            Operand::F16(values) => values.into(),
            Operand::BF16(values) => values.into(),
        }
    }

    /// Copies the operand to memory that starts `shift` elements after a multiple of 16 bytes.
    pub fn placed(&self, shift: usize) -> Placed {
        match self {
            Operand::F32(values) => Placed::F32(Guarded::of(values, shift)),
            Operand::F16(values) => Placed::F16(Guarded::of(values, shift)),
            Operand::BF16(values) => Placed::BF16(Guarded::of(values, shift)),
        }
    }
}

impl Placed {
    pub fn at(&mut self) -> TypedDevicePtr {
        match self {
            Placed::F32(values) => TypedDevicePtr { address: values.address(), dtype: DType::F32 },
            Placed::F16(values) => TypedDevicePtr { address: values.address(), dtype: DType::F16 },
            Placed::BF16(values) => TypedDevicePtr { address: values.address(), dtype: DType::BF16 },
        }
    }
}

/// Distribution of the numbers in a row to normalise.
#[derive(Clone, Copy, Debug)]
pub enum RowKind {
    Normal,
    /// Numbers far from zero, so that the variance needs two passes.
    Offset,
    /// Numbers of one magnitude, which is random for each row.
    Scaled,
    /// Zeros, and numbers of many magnitudes.
    Sparse,
    /// Numbers that are all equal.
    Same,
    /// Numbers with an exact sum of 0. Some of them are 0. The computed mean is only a rounding error, which depends on
    /// the order of additions. The outputs of the elements that are 0 show this error.
    Cancelling,
    /// Numbers as in [`Kind::Any`].
    Any,
}

pub const ROWS: [RowKind; 7] = [
    RowKind::Normal,
    RowKind::Offset,
    RowKind::Scaled,
    RowKind::Sparse,
    RowKind::Same,
    RowKind::Cancelling,
    RowKind::Any,
];

pub fn row_of<E: Element>(rng: &mut StdRng, kind: RowKind, cols: usize) -> Vec<E> {
    if let RowKind::Any = kind {
        return row(rng, Kind::Any, cols);
    }
    let normal: Vec<f64> = row(rng, Kind::Normal, cols);
    let scale = 10f64.powf(rng.random_range(-44.0..38.0));
    let same = rng.random_range(-9.0..9.0);
    let mut number = |z: f64| match kind {
        RowKind::Offset => z + 300.0,
        RowKind::Scaled => z * scale,
        RowKind::Sparse if rng.random_bool(0.7) => z * 0.0,
        RowKind::Sparse => z * 2f64.powi(-rng.random_range(0..100)),
        RowKind::Cancelling => z * 2f64.powi(-rng.random_range(0..60)),
        RowKind::Same => same,
        RowKind::Normal | RowKind::Any => z,
    };
    let mut numbers: Vec<E> = normal.into_iter().map(|z| E::from_wide(number(z))).collect();
    if let RowKind::Cancelling = kind {
        let (half, rest) = numbers.split_at_mut(cols.saturating_sub(1) / 2);
        let (negative, zeros) = rest.split_at_mut(half.len());
        for (to, v) in negative.iter_mut().zip(half) {
            *to = E::from_wide(-v.widen());
        }
        zeros.fill(E::ZERO);
        numbers.shuffle(rng);
    }
    numbers
}

/// Distribution of weights or biases.
#[derive(Clone, Copy, Debug)]
pub enum OperandKind {
    Normal,
    /// Some numbers are zeros.
    Zeros,
    /// Some numbers are near the smallest magnitude for which the kernels use f32.
    Small,
    /// Some numbers are near the largest magnitude for which the kernels use f32.
    Large,
    /// One number is NaN or infinite.
    Broken,
}

const OPERANDS: [OperandKind; 5] =
    [OperandKind::Normal, OperandKind::Zeros, OperandKind::Small, OperandKind::Large, OperandKind::Broken];

fn operand_of(rng: &mut StdRng, kind: OperandKind, dtype: DType, cols: usize) -> Operand {
    let small = [2f64.powi(-25), 2f64.powi(-60), 2f64.powi(-25) * (1.0 + 2f64.powi(-7)), 2f64.powi(-60) * 0.99];
    let large = [255.0, 256.0, 257.0, 2f64.powi(59), 2f64.powi(60), 2f64.powi(61)];
    let (small, large) = (small[rng.random_range(0..small.len())], large[rng.random_range(0..large.len())]);
    let mut numbers: Vec<f64> = row(rng, Kind::Normal, cols);
    for number in &mut numbers {
        *number = match kind {
            OperandKind::Zeros if rng.random_bool(0.2) => *number * 0.0,
            OperandKind::Small if rng.random_bool(0.2) => small * number.signum(),
            OperandKind::Large if rng.random_bool(0.2) => large * number.signum(),
            _ => 1.0 + 0.2 * *number,
        };
    }
    if let OperandKind::Broken = kind {
        numbers[rng.random_range(0..cols)] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][cols % 3];
    }
    Operand::of(dtype, &numbers)
}

/// Returns no operand, or an operand of a random kind and type. In most cases, the operand has the same type as the
/// rows.
pub fn operand(rng: &mut StdRng, of_rows: DType, cols: usize) -> Option<Operand> {
    let kind = *OPERANDS.get(rng.random_range(0..OPERANDS.len() + 1))?;
    let dtype = [of_rows, of_rows, DType::F32, DType::F16, DType::BF16][rng.random_range(0..5)];
    Some(operand_of(rng, kind, dtype, cols))
}

/// Returns weights for a row. All are 1, except one that gives different results in f32 and in f64 arithmetic. The
/// result in its column shows which arithmetic a kernel used.
///
/// The function `differ` takes a column and a weight, and returns whether the weight gives different results in this
/// column.
pub fn telling(columns: std::ops::Range<usize>, cols: usize, differ: impl Fn(usize, f32) -> bool) -> Vec<f32> {
    let mut weights = vec![1.0; cols];
    for column in columns {
        let found = (0..1 << 23).map(|digits| f32::from_bits(1f32.to_bits() | digits)).find(|&w| differ(column, w));
        if let Some(weight) = found {
            weights[column] = weight;
            return weights;
        }
    }
    panic!("rows of {cols} columns: the test needs a weight with different results in f32 and f64, found none");
}

/// Returns three consecutive f32. The second is the f32 nearest to `number`, which must be positive.
pub fn around(number: f64) -> [f32; 3] {
    let bits = (number as f32).to_bits();
    [bits - 1, bits, bits + 1].map(f32::from_bits)
}
