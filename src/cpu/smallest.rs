//! Smallest nonzero magnitude in a row of f32.

use crate::element::Element;
use crate::simd::{Float, Isa, Kernel, fold};

/// Smallest nonzero magnitude of f32 values; +inf if there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    pub value: f64,
    /// Whether `value` is the f32 just below the smallest magnitude. This is the case in rows with zeros; see
    /// `SmallestBut0`.
    pub stepped: bool,
}

impl Least {
    pub const NOTHING: Self = Least { value: f64::INFINITY, stepped: false };

    /// Returns the smaller of two magnitudes. If only one is `stepped`, the unstepped one is first lowered to the next
    /// smaller f32.
    pub fn merge(self, other: Self) -> Self {
        let stepped = self.stepped || other.stepped;
        let step = |least: Least| {
            let bits = (least.value as f32).to_bits();
            if stepped && !least.stepped && least.value.is_finite() {
                f64::from(f32::from_bits(bits - 1))
            } else {
                least.value
            }
        };
        Least { value: step(self).min(step(other)), stepped }
    }
}

/// Smallest magnitude among blocks of f32. Two chains hide the latency of a comparison.
#[derive(Clone, Copy)]
pub struct Smallest<I: Isa>([I::F32; 2]);

impl<I: Isa> Smallest<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        Smallest([isa.f32(f32::INFINITY); 2])
    }

    /// Updates the minimum with the magnitudes of the block that has this index.
    #[inline(always)]
    pub fn update(mut self, index: usize, magnitudes: I::F32) -> Self {
        self.0[index % 2] = magnitudes.min(self.0[index % 2]);
        self
    }

    /// Returns the smallest nonzero magnitude of `x`. Every block of `x` must have been passed to [`Smallest::update`].
    #[inline(always)]
    pub fn found<E: Element>(self, isa: I, x: &[E]) -> Least {
        let smallest = f64::from(isa.min_f32(self.0[0].min(self.0[1])));
        if smallest > 0.0 {
            return Least { value: smallest, stepped: false };
        }
        Least { value: isa.outline(SmallestBut0(x)), stepped: true }
    }
}

/// Kernel of [`Smallest::found`] for rows with zeros. It subtracts 1 from the bits of each magnitude. A zero thus
/// becomes NaN, which the minimum ignores. Any other magnitude becomes the next smaller f32.
struct SmallestBut0<'a, E>(&'a [E]);

impl<E: Element> Kernel for SmallestBut0<'_, E> {
    type Out = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let smallest = fold(
            self.0,
            E::ZERO,
            isa.f32(f32::INFINITY),
            #[inline(always)]
            |smallest, _, values| I::F32::from_bits(E::load(isa, values).abs().to_bits() - isa.i32(1)).min(smallest),
        );
        isa.min_f32(smallest).into()
    }
}
