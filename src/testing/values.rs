//! Lists of values of a storage type: all values, special values, the neighbours of a value, and evenly spaced values.

use crate::element::Element;

/// A storage type as a sequence of values in increasing order.
pub trait Bits: Element {
    /// Number of bits of a value.
    const WIDTH: u32 = 8 * size_of::<Self>() as u32;

    /// Returns the position of a value among all values in increasing order. Both zeros have position 0, and the
    /// infinities have the first and the last position. NaN has no position.
    ///
    /// ```
    /// use evenkeel::testing::values::Bits;
    /// assert_eq!((1.0f32 + f32::EPSILON).place() - 1.0f32.place(), 1);
    /// ```
    fn place(self) -> i64 {
        let sign = 1 << (Self::WIDTH - 1);
        let magnitude = (self.bits() & (sign - 1)) as i64;
        if self.bits() & sign == 0 { magnitude } else { -magnitude }
    }

    /// Returns the value at a position in the ordered list of all values of the type. Returns an infinity for positions
    /// beyond it.
    fn at_place(place: i64) -> Self {
        let magnitude = place.unsigned_abs().min(Self::INFINITY.bits());
        Self::from_bits(if place < 0 { magnitude | 1 << (Self::WIDTH - 1) } else { magnitude })
    }
}

impl<E: Element> Bits for E {}

/// Returns every value of a 16-bit type, including NaN.
///
/// # Panics
/// Panics for a wider type, which has too many values.
///
/// ```
/// assert_eq!(evenkeel::testing::values::all::<half::bf16>().len(), 65_536);
/// ```
pub fn all<E: Bits>() -> Vec<E> {
    assert_eq!(E::WIDTH, 16, "expected a 16-bit type, got {}, which has too many values to test all", E::DTYPE);
    (0..1 << 16).map(E::from_bits).collect()
}

/// Returns zeros, infinities, NaN with several payloads, ±1, and the limits of the subnormal, normal and finite
/// numbers.
pub fn special<E: Bits>() -> Vec<E> {
    let quiet = E::NAN.bits();
    let sign = 1 << (E::WIDTH - 1);
    let mut values: Vec<E> = [quiet, quiet | sign, quiet | 1, E::INFINITY.bits() + 1].map(E::from_bits).to_vec();
    let limits = E::LIMITS;
    for magnitude in [0.0, limits.min_subnormal, limits.min_normal, 1.0, limits.max, f64::INFINITY] {
        values.extend([E::from_wide(magnitude), E::from_wide(-magnitude)]);
    }
    values
}

/// Returns each point, with the next `steps` values below it and the next `steps` values above it.
///
/// ```
/// use evenkeel::testing::values::walk;
/// assert_eq!(walk::<f32>(&[1.0], 1), [1.0f32.next_down(), 1.0, 1.0f32.next_up()]);
/// ```
pub fn walk<E: Bits>(points: &[f64], steps: i64) -> Vec<E> {
    let around = |&point: &f64| {
        let place = E::from_wide(point).place();
        (place - steps..=place + steps).map(E::at_place)
    };
    points.iter().flat_map(around).collect()
}

/// Returns `count` values. Their positions are evenly spaced, beginning with the position of `from` and ending before
/// the position of `to`.
pub fn spaced<E: Bits>(from: f64, to: f64, count: usize) -> Vec<E> {
    let (from, to) = (i128::from(E::from_wide(from).place()), i128::from(E::from_wide(to).place()));
    (0..count as i128).map(|i| E::at_place((from + (to - from) * i / count as i128) as i64)).collect()
}
