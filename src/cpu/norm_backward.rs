//! The gradient of a normalised row, all of it in f64, rounded once.
//!
//! With n the normalised row, r what it was multiplied with and h = dy weight: dx = r (h - mean(h) - n mean(h n)), the
//! mean of h for centred rows only. Both means are of sums by rule O; the row's own moments come from `moments`.

use super::lanes::{LaneKernel, Met};
use super::moments::{Moments, power_of_two};
use crate::element::{DType, Element};
use crate::floats::Floats;
use crate::math::sum::sum_o;
use crate::rows::Rows;
use crate::simd::{Ahead, Float, Isa, Select, Span, Written, block, fold};

/// A norm, as its gradients see it.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Ones if there is none.
    pub weight: Option<Floats<'a>>,
    pub weight_offset: f64,
    pub eps: f64,
    /// Whether the mean is taken off.
    pub centred: bool,
    /// Whether the weight multiplies what was rounded to the rows' type.
    pub rounded: bool,
}

impl Norm<'_> {
    /// How a row is normalised.
    #[inline(always)]
    pub fn moments<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> Moments {
        if self.centred { Moments::layer(isa, x, self.eps) } else { Moments::rms(isa, x, self.eps) }
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

/// From dy to dx.
#[derive(Clone, Copy)]
pub struct NormBackward<'a, E> {
    pub norm: Norm<'a>,
    /// What was normalised.
    pub x: Rows<'a, E>,
    /// How, if that is known already.
    pub moments: Option<&'a [Moments]>,
}

impl<E: Element> LaneKernel<E> for NormBackward<'_, E> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, index: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        let (norm, x) = (self.norm, self.x.row(index));
        let moments = match self.moments {
            Some(moments) => moments[index],
            None => norm.moments(isa, x),
        };
        let cols = span.len();
        let row = Row { isa, norm, x, moments, factors: Factors::of(isa, span.source(), norm) };
        let dy = span.source();
        // Behind the last element dy is 0, and so are the terms.
        let along = sum_o(
            isa,
            cols,
            #[inline(always)]
            |i| row.h(i, E::load_wide(isa, &block(dy, i, E::ZERO))) * row.n(i),
        ) / cols as f64;
        let mean = if norm.centred {
            let sum = sum_o(
                isa,
                cols,
                #[inline(always)]
                |i| row.h(i, E::load_wide(isa, &block(dy, i, E::ZERO))),
            );
            sum / cols as f64
        } else {
            0.0
        };
        moments.count(&mut met.counts);
        if moments.is_finite() && !along.is_finite() {
            // What dy has: an infinity spoils the whole row, as NaN does.
            met.counts.add_broken(along);
        }
        let along = isa.f64(if along.is_finite() { -along } else { f64::NAN });
        let mean = isa.f64(mean);
        let scale = isa.f64(moments.scale());
        let powers = moments.out_of_units(row.factors.exponent).map(
            #[inline(always)]
            |power| isa.f64(power),
        );
        let (next, next_to) = (Ahead::of(dy, 1), span.ahead(1));
        span.map_wide(
            isa,
            #[inline(always)]
            |i, dy| {
                next.block(i);
                next_to.block(i);
                let dx = row.n(i).mul_add(along, row.h(i, dy) - mean) * scale;
                if E::DTYPE == DType::F64 { dx * powers[0] * powers[1] } else { dx }
            },
        )
        .into()
    }
}

/// What a row's terms are made of.
struct Row<'a, I, E> {
    isa: I,
    norm: Norm<'a>,
    x: &'a [E],
    moments: Moments,
    factors: Factors,
}

impl<I: Isa, E: Element> Row<'_, I, E> {
    /// The `i`th block of the normalised row.
    #[inline(always)]
    fn n(&self, i: usize) -> I::F64 {
        self.moments.normalise::<I, E, true>(self.isa, E::load_wide(self.isa, &block(self.x, i, E::ZERO)))
    }

    /// The `i`th block of dy weight, of which `dy` is given.
    #[inline(always)]
    fn h(&self, i: usize, dy: I::F64) -> I::F64 {
        self.factors.product::<I, E>(self.isa, dy, self.norm.weights(self.isa, self.x.len(), i))
    }
}

/// What the factors of products in rows of f64 are multiplied with, so that these neither overflow nor vanish. Where
/// some overflow, those vanish that are 2^-846 of the row's largest or less.
#[derive(Clone, Copy)]
struct Factors {
    larger: f64,
    /// In two steps: together they may be beyond f64.
    smaller: [f64; 2],
    /// Products are in units of 2^exponent.
    exponent: i32,
}

impl Factors {
    #[inline(always)]
    fn of<I: Isa, E: Element>(isa: I, dy: &[E], norm: Norm<'_>) -> Self {
        let plain = Factors { larger: 1.0, smaller: [1.0; 2], exponent: 0 };
        if E::DTYPE != DType::F64 {
            return plain;
        }
        let largest = plain.largest(isa, dy, norm);
        if largest.is_infinite() {
            // Products of two numbers of f64 are below 2^848 then, and the largest is above 2^-176.
            return Factors { larger: power_of_two(-600), smaller: [power_of_two(-600), 1.0], exponent: 1200 };
        }
        if largest > power_of_two(900) {
            return Factors { larger: power_of_two(-150), exponent: 150, ..plain };
        }
        if largest >= power_of_two(-900) {
            return plain;
        }
        // The smaller factor of each product is below 2^-450, or below 2^-750.
        let up = Factors { larger: 1.0, smaller: [power_of_two(1000), 1.0], exponent: -1000 };
        if up.largest(isa, dy, norm) >= power_of_two(-500) {
            return up;
        }
        Factors { larger: 1.0, smaller: [power_of_two(1000), power_of_two(500)], exponent: -1500 }
    }

    /// The largest product; what is NaN does not count.
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
        isa.array_f64(largest).into_iter().fold(0.0, f64::max)
    }

    #[inline(always)]
    fn product<I: Isa, E: Element>(&self, isa: I, a: I::F64, b: I::F64) -> I::F64 {
        if E::DTYPE != DType::F64 {
            return a * b;
        }
        let order = a.abs().lt(b.abs());
        let (larger, smaller) = (I::F64::select(order, b, a), I::F64::select(order, a, b));
        (larger * isa.f64(self.larger)) * (smaller * isa.f64(self.smaller[0]) * isa.f64(self.smaller[1]))
    }
}
