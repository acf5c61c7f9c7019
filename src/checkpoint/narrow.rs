//! Narrow types that a checkpoint may be converted to, and the values that they cannot represent.

use crate::math::bins::power_of_two;

/// A 16-bit or 8-bit float type, with the limits beyond which a number overflows or becomes 0 when it is rounded to the
/// type. Rounding is to nearest, with ties to even.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Narrow {
    /// Name of the type: `f16`, `bf16`, `e4m3` (OCP's E4M3FN) or `e5m2`.
    pub name: &'static str,
    /// Largest finite value of the type.
    pub max: f64,
    /// Midpoint between `max` and the value that would follow if the type's range were larger. Magnitudes above this
    /// midpoint overflow.
    pub(crate) edge: f64,
    /// Whether the midpoint itself is rounded to `max` instead of overflowing.
    pub(crate) edge_fits: bool,
    /// Largest magnitude that becomes 0: half the smallest subnormal.
    pub(crate) vanishes: f64,
}

impl Narrow {
    /// All types, in the order of [`Stats::fits`](super::Stats::fits).
    pub const ALL: &[Narrow] = &[
        Narrow { name: "f16", max: 65504.0, edge: 65520.0, edge_fits: false, vanishes: power_of_two(-25) },
        Narrow {
            name: "bf16",
            max: 255.0 * power_of_two(120),
            edge: 511.0 * power_of_two(119),
            edge_fits: false,
            vanishes: power_of_two(-134),
        },
        Narrow { name: "e4m3", max: 448.0, edge: 464.0, edge_fits: true, vanishes: power_of_two(-10) },
        Narrow { name: "e5m2", max: 57344.0, edge: 61440.0, edge_fits: false, vanishes: power_of_two(-17) },
    ];

    /// Returns the largest f64 magnitude that does not overflow in this type.
    pub(crate) fn fits(&self) -> f64 {
        if self.edge_fits { self.edge } else { self.edge.next_down() }
    }

    /// Returns the largest f32 magnitude that does not overflow in this type.
    pub(crate) fn fits_f32(&self) -> f32 {
        let edge = self.edge as f32;
        if self.edge_fits { edge } else { edge.next_down() }
    }
}
