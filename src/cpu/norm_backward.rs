//! Gradient of a normalised row, computed in f64 and rounded once.
//!
//! Let n be the normalised row, r the factor that scaled it, and h the product of dy and the weight. Then the gradient
//! is `dx = r * (h - mean(h) - n * mean(h * n))`. The mean of h is subtracted for centred rows only. Both means come
//! from tiled sums. The row's moments come from `moments`.

#[cfg(feature = "sharded")]
pub mod partial;

use super::lanes::{GuardCounts, LaneKernel, RowIo};
use super::moments::{FullRow, Kept, Moments, OfRow, power_of_two};
use super::scratch::{Scratch, scratch_slice};
use crate::element::Element;
use crate::floats::{Floats, each_type};
use crate::math::sum::sums_o_beside;
use crate::rows::Rows;
use crate::simd::{BLOCK, Float, Isa, Kernel, PrefetchRow, Select, Span, Written, fold, load_wide};

/// Parameters of a norm that its gradients need.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Weight of each column; all ones if absent.
    pub weight: Option<Floats<'a>>,
    pub weight_offset: f64,
    pub eps: f64,
    /// Whether the mean is subtracted, as in LayerNorm.
    pub centred: bool,
    /// Whether the normalised row is rounded to its storage type before the multiplication by the weight.
    pub rounded: bool,
}

impl Norm<'_> {
    /// Returns the name of the gradient's op.
    pub fn op(&self) -> &'static str {
        if self.centred { "layer_norm_backward" } else { "rms_norm_backward" }
    }

    /// Computes the moments of the row `x`.
    #[inline(always)]
    pub fn moments<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> Moments {
        isa.outline(OfRow { x, eps: self.eps, centred: self.centred })
    }

    #[inline(always)]
    fn weights<I: Isa>(&self, isa: I, cols: usize, i: usize) -> I::F64 {
        let weights = match self.weight {
            Some(weight) => weight.block(isa, 0..cols, i),
            None => isa.f64(1.0),
        };
        weights + isa.f64(self.weight_offset)
    }
}

/// Kernel that computes dx from dy.
#[derive(Clone, Copy)]
pub struct NormBackward<'a, E> {
    pub norm: Norm<'a>,
    /// Rows that were normalised.
    pub x: Rows<'a, E>,
    /// Moments of each row, if they are known already.
    pub moments: Option<&'a [Moments]>,
    /// Sums over the complete rows, if `x` and dy are shards of rows.
    pub sums: Option<&'a [Sums]>,
}

/// Sums over a complete row.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    factors: Factors,
    /// Sum of `h * n`, where h = dy * weight and n is the normalised row. For centred rows, also the sum of h.
    sums: [f64; 2],
    cols: usize,
}

impl<E: Element> LaneKernel<E> for NormBackward<'_, E> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        let len = io.len();
        let weights = scratch_slice(&mut scratch.made.f64s, len);
        if !E::IS_F64 {
            isa.outline(Weights { norm: &self.norm, to: &mut *weights });
        }
        let mut written = Written::default();
        for (i, index) in io.indices().enumerate() {
            written = written + self.row(isa, weights, index, io.span(i), guards).into();
        }
        written
    }
}

/// Writes the sum of weight and offset for each column.
struct Weights<'a, 'b> {
    norm: &'a Norm<'a>,
    to: &'b mut [f64],
}

impl Kernel for Weights<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Weights { norm, to } = self;
        let offset = isa.f64(norm.weight_offset);
        match norm.weight {
            Some(weight) => each_type!(weight, values => {
                Span::in_place(to).reading(values).map(isa, #[inline(always)] |_, weight: I::F64| weight + offset);
            }),
            None => to.fill(1.0 + norm.weight_offset),
        }
    }
}

impl<E: Element> NormBackward<'_, E> {
    #[inline(always)]
    fn row<'d, I: Isa>(
        &self,
        isa: I,
        weights: &[f64],
        index: usize,
        span: Span<'d, 'd, E, E>,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let (norm, x) = (self.norm, self.x.row(index));
        let moments = match self.moments {
            Some(moments) => moments[index],
            None => norm.moments(isa, x),
        };
        let sums = self.sums.map(
            #[inline(always)]
            |sums| sums[index],
        );
        if E::IS_F64 {
            return isa.outline(Wide { norm, x, moments, sums, span, guards });
        }
        narrow(isa, &norm, (moments, sums), x, weights, span, guards)
    }
}

/// Returns `-mean(h * n)` and `mean(h)`, where h = dy * weight and n is the normalised row. An infinite `mean(h * n)`
/// becomes NaN. If the norm does not centre rows, 0 replaces `mean(h)`. Counts the row in `guards` if the row or its dy
/// has a NaN or an infinity.
#[inline(always)]
fn means(norm: &Norm<'_>, moments: &Moments, Sums { sums, cols, .. }: Sums, guards: &mut GuardCounts) -> [f64; 2] {
    let along = sums[0] / cols as f64;
    moments.count(&mut guards.counts);
    if moments.is_finite() && !along.is_finite() {
        // The input row is finite, so the cause is in dy. An infinity in dy, like a NaN, makes the whole gradient NaN.
        guards.counts.add_broken(along);
    }
    let along = if along.is_finite() { -along } else { f64::NAN };
    [along, if norm.centred { sums[1] / cols as f64 } else { 0.0 }]
}

/// Writes the gradient of a row of a type narrower than f64. Products of such numbers neither overflow nor underflow in
/// f64.
#[inline(always)]
fn narrow<'d, I: Isa, E: Element>(
    isa: I,
    norm: &Norm<'_>,
    (moments, sums): (Moments, Option<Sums>),
    x: &[E],
    weights: &[f64],
    span: Span<'d, 'd, E, E>,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    let of = RowTerms { isa, moments };
    let sums = match sums {
        Some(sums) => sums,
        None => of.sums(norm.centred, span.source(), x, weights),
    };
    let [along, mean] = means(norm, &moments, sums, guards);
    let (along, mean, scale) = (isa.f64(along), isa.f64(mean), isa.f64(moments.scale()));
    let (next, next_x) = (span.next(1), PrefetchRow::of(x, 1));
    span.map_with(
        isa,
        ([x], [weights]),
        #[inline(always)]
        |i, dy: I::F64, ([x], [weight])| {
            next.block(i);
            next_x.block(i);
            of.n::<E>(x).mul_add(along, of.h(dy, weight) - mean) * scale
        },
    )
}

/// Operands from which the terms of a row's sums are computed, for f32, f16 and bf16.
struct RowTerms<I: Isa> {
    isa: I,
    moments: Moments,
}

impl<I: Isa> RowTerms<I> {
    /// Returns the sums over the row. Past the last element, dy is padded with 0, so the terms are 0.
    #[inline(always)]
    fn sums<E: Element>(&self, centred: bool, dy: &[E], x: &[E], weights: &[f64]) -> Sums {
        let isa = self.isa;
        let sums = if centred {
            sums_o_beside(
                isa,
                ([dy, x], E::ZERO),
                ([weights], 0.0),
                #[inline(always)]
                |_, [dy, x], [weight], [along, sum]| {
                    let h = self.h(E::load_wide(isa, dy), weight);
                    [along + h * self.n::<E>(x), sum + h]
                },
            )
        } else {
            let [along] = sums_o_beside(
                isa,
                ([dy, x], E::ZERO),
                ([weights], 0.0),
                #[inline(always)]
                |_, [dy, x], [weight], [along]| [along + self.h(E::load_wide(isa, dy), weight) * self.n::<E>(x)],
            );
            [along, 0.0]
        };
        Sums { factors: Factors::NONE, sums, cols: dy.len() }
    }

    #[inline(always)]
    fn n<E: Element>(&self, x: &[E; BLOCK]) -> I::F64 {
        self.moments.normalise::<I, E, true>(self.isa, E::load_wide(self.isa, x))
    }

    #[inline(always)]
    fn h(&self, dy: I::F64, weight: &[f64; BLOCK]) -> I::F64 {
        dy * self.isa.load_f64(weight)
    }
}

/// Gradient of a row of f64, compiled as a separate function.
struct Wide<'a, 's, E> {
    norm: Norm<'a>,
    x: &'a [E],
    moments: Moments,
    sums: Option<Sums>,
    span: Span<'s, 's, E, E>,
    guards: &'a mut GuardCounts,
}

impl<'s, E: Element> Kernel for Wide<'_, 's, E> {
    type Out = &'s mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'s mut [E] {
        let Wide { norm, x, moments, sums, span, guards } = self;
        let dy = span.source();
        let factors = match sums {
            Some(sums) => sums.factors,
            None => Factors::of(isa, dy, norm),
        };
        let row = Row { isa, norm, x, moments, factors };
        let sums = match sums {
            Some(sums) => sums,
            None => {
                let [along, sum] = row.sums::<FullRow>(dy);
                let ([along], [sum]) = (along.unwrap_or_default(), sum.unwrap_or_default());
                Sums { factors, sums: [along, sum], cols: dy.len() }
            }
        };
        let [along, mean] = means(&norm, &moments, sums, guards);
        let (along, mean) = (isa.f64(along), isa.f64(mean));
        let scale = isa.f64(moments.scale());
        let [power, other_power] = moments.out_of_units(row.factors.exponent);
        let (power, other_power) = (isa.f64(power), isa.f64(other_power));
        let next = span.next(1);
        span.map(
            isa,
            #[inline(always)]
            |i, dy: I::F64| {
                next.block(i);
                let dx = row.n(i).mul_add(along, row.h(i, dy) - mean) * scale;
                if E::IS_F64 { dx * power * other_power } else { dx }
            },
        )
    }
}

/// Operands from which the terms of a row's sums are computed, for any type.
struct Row<'a, I, E> {
    isa: I,
    norm: Norm<'a>,
    x: &'a [E],
    moments: Moments,
    factors: Factors,
}

impl<I: Isa, E: Element> Row<'_, I, E> {
    /// Sums `h * n`, where h = dy * weight and n is the normalised row. For centred rows, also sums h. Padding dy with
    /// 0 makes the terms past the last element 0.
    #[inline(always)]
    fn sums<K: Kept>(&self, dy: &[E]) -> [Option<K::Sums<1>>; 2] {
        let isa = self.isa;
        let along = K::sums(
            isa,
            dy,
            #[inline(always)]
            |i, dy, [along]| [along + self.h(i, E::load_wide(isa, dy)) * self.n(i)],
        );
        if !self.norm.centred {
            return [Some(along), None];
        }
        let sum = K::sums(
            isa,
            dy,
            #[inline(always)]
            |i, dy, [sum]| [sum + self.h(i, E::load_wide(isa, dy))],
        );
        [Some(along), Some(sum)]
    }

    /// Returns block `i` of the normalised row. Positions past the last element hold the row's first element, since a
    /// zero may normalise to infinity.
    #[inline(always)]
    fn n(&self, i: usize) -> I::F64 {
        let pad = self.x.first().copied().unwrap_or(E::ZERO);
        self.moments.normalise::<I, E, true>(self.isa, load_wide(self.isa, self.x, i, pad))
    }

    /// Returns block `i` of h, the product of dy and the weight, scaled by `self.factors`. `dy` is block `i` of dy.
    #[inline(always)]
    fn h(&self, i: usize, dy: I::F64) -> I::F64 {
        self.factors.product::<I, E>(self.isa, dy, self.norm.weights(self.isa, self.x.len(), i))
    }
}

/// Powers of two that scale the factors of products in a row of f64, so that the products neither overflow nor
/// underflow. In each product, `larger` scales the factor of larger magnitude, and `smaller` scales the other factor.
/// In a row where products would overflow, a product below 2^-474 times the row's largest product may become zero.
#[derive(Clone, Copy, Debug)]
struct Factors {
    larger: f64,
    /// Two powers, applied one after the other because their product may exceed the range of f64.
    smaller: [f64; 2],
    /// A product is its scaled value times 2^exponent.
    exponent: i32,
}

impl Factors {
    const NONE: Self = Factors { larger: 1.0, smaller: [1.0; 2], exponent: 0 };

    /// Returns the powers for rows whose products are all below 2^-900. The factor of smaller magnitude in each product
    /// is then below 2^-450, so scaling it by 2^1000 cannot overflow. [`Factors::for_largest`] scales further if the
    /// products are still too small.
    #[inline(always)]
    fn up() -> Self {
        Factors { smaller: [power_of_two(1000), 1.0], exponent: -1000, ..Self::NONE }
    }

    #[inline(always)]
    fn of<I: Isa, E: Element>(isa: I, dy: &[E], norm: Norm<'_>) -> Self {
        if !E::IS_F64 {
            return Self::NONE;
        }
        Self::for_largest(
            Self::NONE.largest(isa, dy, norm),
            #[inline(always)]
            || Self::up().largest(isa, dy, norm),
        )
    }

    /// Returns the factors for rows with this largest product. `of_up` computes the largest product after scaling by
    /// [`Factors::up`].
    #[inline(always)]
    fn for_largest(largest: f64, of_up: impl FnOnce() -> f64) -> Self {
        if largest.is_infinite() {
            // After this scaling, products of two f64 numbers are below 2^848, and the largest product is above 2^-176.
            return Factors { larger: power_of_two(-600), smaller: [power_of_two(-600), 1.0], exponent: 1200 };
        }
        if largest > power_of_two(900) {
            return Factors { larger: power_of_two(-150), exponent: 150, ..Self::NONE };
        }
        if largest >= power_of_two(-900) {
            return Self::NONE;
        }
        let up = Self::up();
        if of_up() >= power_of_two(-500) {
            return up;
        }
        Factors { smaller: [power_of_two(1000), power_of_two(500)], exponent: -1500, ..Self::NONE }
    }

    /// Returns the largest magnitude of a scaled product; a NaN is ignored.
    #[inline(always)]
    fn largest<I: Isa, E: Element>(&self, isa: I, dy: &[E], norm: Norm<'_>) -> f64 {
        let largest = fold(
            dy,
            E::ZERO,
            isa.f64(0.0),
            #[inline(always)]
            |largest, i, values| {
                let weights = norm.weights(isa, dy.len(), i);
                self.product::<I, E>(isa, E::load_wide(isa, values), weights).abs().max(largest)
            },
        );
        isa.max_f64(largest)
    }

    #[inline(always)]
    fn product<I: Isa, E: Element>(&self, isa: I, a: I::F64, b: I::F64) -> I::F64 {
        if !E::IS_F64 {
            return a * b;
        }
        let order = a.abs().lt(b.abs());
        let (larger, smaller) = (I::F64::select(order, b, a), I::F64::select(order, a, b));
        (larger * isa.f64(self.larger)) * (smaller * isa.f64(self.smaller[0]) * isa.f64(self.smaller[1]))
    }
}
