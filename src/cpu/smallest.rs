//! The smallest magnitude of a row of f32 that is not 0.

use crate::element::Element;
use crate::simd::{Float, Isa, Kernel, fold};

/// The smallest magnitude of f32 that is not 0; +inf if there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    pub value: f64,
    /// Whether it is one step less, as it is where zeros are.
    pub stepped: bool,
}

impl Least {
    pub const NOTHING: Self = Least { value: f64::INFINITY, stepped: false };

    /// That of both.
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

/// The smallest magnitude among blocks of f32, in two chains, so that the latency of a comparison does not decide the
/// speed.
#[derive(Clone, Copy)]
pub struct Smallest<I: Isa>([I::F32; 2]);

impl<I: Isa> Smallest<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        Smallest([isa.f32(f32::INFINITY); 2])
    }

    /// Compares the magnitudes of the block of this index.
    #[inline(always)]
    pub fn meet(mut self, index: usize, magnitudes: I::F32) -> Self {
        self.0[index % 2] = magnitudes.min(self.0[index % 2]);
        self
    }

    /// The smallest that is not 0 of the elements of `x`, which were all met.
    #[inline(always)]
    pub fn found<E: Element>(self, isa: I, x: &[E]) -> Least {
        let smallest = smallest_of(isa, self.0[0].min(self.0[1]));
        if smallest > 0.0 {
            return Least { value: smallest, stepped: false };
        }
        Least { value: isa.outline(SmallestBut0(x)), stepped: true }
    }
}

#[inline(always)]
fn smallest_of<I: Isa>(isa: I, values: I::F32) -> f64 {
    // None is NaN.
    let min = |a: f32, b: f32| if a < b { a } else { b };
    let mut values = isa.array_f32(values);
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            values[i] = min(values[i], values[i + width]);
        }
    }
    values[0].into()
}

/// [`Smallest::found`] where there are zeros: of 0 what is one step nearer to 0 is a NaN, which is never smaller.
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
        smallest_of(isa, smallest)
    }
}
