//! The types that a checkpoint may be converted to, and what does not fit into them.

/// A type of 16 or 8 bits, by what rounding to it (to nearest, ties to even) loses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Narrow {
    /// Its name: `f16`, `bf16`, `e4m3` (OCP's E4M3FN) or `e5m2`.
    pub name: &'static str,
    /// Its largest finite value.
    pub max: f64,
    /// Half-way from that to what would follow.
    pub(crate) edge: f64,
    /// Whether the value half-way is rounded down, to the largest finite value.
    pub(crate) edge_fits: bool,
    /// The largest magnitude that becomes 0: half the smallest subnormal.
    pub(crate) vanishes: f64,
}

/// `2^e` for exponents whose result is normal.
const fn power_of_two(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

impl Narrow {
    /// All four, in the order of [`Stats::fits`](super::Stats::fits).
    pub const ALL: [Narrow; 4] = [
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

    /// The largest magnitude in f64 that does not overflow.
    pub(crate) fn fits(&self) -> f64 {
        if self.edge_fits { self.edge } else { self.edge.next_down() }
    }

    /// The same in f32.
    pub(crate) fn fits_f32(&self) -> f32 {
        let edge = self.edge as f32;
        if self.edge_fits { edge } else { edge.next_down() }
    }
}
