//! Code shared by the gradients of softmax and log_softmax that start from the result `y` of the forward call.
//!
//! The first pass over a lane adds the formula's terms by the tiled sum. The second pass computes the gradients, in f64
//! for f32 and f64, and in f32 for f16 and bf16. If intermediate values of a lane of f16 or bf16 could leave the range
//! of f32, the lane is computed in f64 like a lane of f32.
//!
//! Neither pass looks for masked positions. If the sum is not finite, the upstream gradients at masked positions are
//! replaced by 0, and the lane is computed again. If the sum is still not finite, the lane holds a NaN or an infinity.

use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::log_softmax_backward_from_output::LogSoftmax;
use super::scores_backward::{grid, lane_of, normaliser};
use super::scratch::{Scratch, scratch_slice};
use super::softmax_backward_from_output::Softmax;
use crate::element::Element;
use crate::math::sum::sums_o_beside;
use crate::rows::Lanes;
use crate::simd::{BLOCK, Float, Isa, Kernel, NotNan, PrefetchRow, PrefetchSpan, Select, Span, Written, fold_with};
use std::marker::PhantomData;

/// Gradient formula of one op.
pub trait Formula: Copy + Send + Sync {
    /// Result of the forward call at a masked position.
    const MASKED: f64;
    /// Whether the second pass has a long loop body, so that one block per iteration is enough.
    const LONG: bool;
    /// Whether the exponentials of f32 lanes are rounded to f32. Even if this is true, a lane for which the product of
    /// sum and scale is very large has f64 exponentials, because rounding errors could make a finite result infinite.
    const ROUNDED_EXP: bool;
    /// Exponential function for the second pass, prepared once for each lane.
    type Exp<I: Isa>: Copy;
    fn exp<I: Isa>(isa: I) -> Self::Exp<I>;
    /// Whether terms are products, which may be subnormal in f32.
    const PRODUCTS: bool;
    /// Adds the terms of a block of f16 or bf16. Each term is exact, unless it is subnormal in f32.
    fn add_short<I: Isa, E: Element>(isa: I, y: &[E; BLOCK], dy: &[E; BLOCK], sum: I::F64) -> I::F64;
    /// Adds the terms of a block of f32, f16 or bf16. Each term is exact.
    fn add<I: Isa, E: Element>(isa: I, y: &[E; BLOCK], dy: &[E; BLOCK], sum: I::F64) -> I::F64;
    /// Returns the terms of a block of f64, and their rounding errors.
    fn terms<I: Isa>(isa: I, y: I::F64, dy: I::F64) -> (I::F64, I::F64);
    /// Returns the gradients of a block, computed in f32. `sum` is the product of the lane's sum and the scale, as a
    /// high and a low part.
    fn short<I: Isa>(isa: I, exp: Self::Exp<I>, y: I::F32, dy: I::F32, scale: I::F32, sum: (I::F32, I::F32)) -> I::F32;
    /// Returns the gradients of a block, computed in f64. `sum` is the product of the lane's sum and the scale.
    fn wide<I: Isa>(isa: I, exp: Self::Exp<I>, y: I::F32, dy: I::F32, scale: I::F64, sum: I::F64) -> I::F32;
    /// Returns the gradients of a block of f64 before they are scaled. `sum` is the lane's sum, as a high and a low
    /// part.
    fn double<I: Isa>(isa: I, y: I::F64, dy: I::F64, sum: (I::F64, I::F64)) -> I::F64;
}

/// Op whose gradient is computed.
#[derive(Clone, Copy)]
pub enum Forward {
    Softmax,
    LogSoftmax,
}

/// Kernel of the gradients of softmax and log_softmax: computes the gradients of a lane's scores from the gradients of
/// its results `y`.
#[derive(Clone, Copy)]
pub struct OutputBackward<'m, E> {
    pub y: Lanes<'m, E>,
    pub scale: f64,
    pub of: Forward,
}

impl<E: Element> LaneKernel<E> for OutputBackward<'_, E> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        each_lane(
            io,
            #[inline(always)]
            |index, span| {
                let mut gathered = Vec::new();
                let y = lane_of(&self.y, index, &mut gathered);
                match self.of {
                    Forward::Softmax => lane::<I, E, Softmax>(isa, y, span, self.scale, scratch, guards),
                    Forward::LogSoftmax => lane::<I, E, LogSoftmax>(isa, y, span, self.scale, scratch, guards),
                }
            },
        )
    }
}

#[inline(always)]
fn lane<'d, I: Isa, E: Element, F: Formula>(
    isa: I,
    y: &[E],
    span: Span<'d, 'd, E, E>,
    scale: f64,
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    if E::IS_F32 || E::IS_F64 {
        return isa.outline(Wide { formula: PhantomData::<F>, y, span, scale, guards });
    }
    let mut cleaned = Vec::new();
    loop {
        let is_clean = !cleaned.is_empty();
        let dy = if is_clean { &cleaned[..] } else { span.source() };
        let [mut sum] = sums_o_beside(
            isa,
            ([y, dy], E::ZERO),
            ([], E::ZERO),
            #[inline(always)]
            |_, [y, dy], [], [sum]| [F::add_short(isa, y, dy, sum)],
        );
        // Terms of f16 are never subnormal in f32.
        if F::PRODUCTS && !is_f16::<E>() && sum.abs() < power(-100) {
            sum = isa.outline(Sum { formula: PhantomData::<F>, y, dy });
        }
        if let Some(short) = Short::new::<E>(sum, scale) {
            count_masked(y, sum, F::MASKED, guards);
            let next = Next::new(y, &span);
            let span = if is_clean { span.reading(&cleaned) } else { span };
            return short.write::<I, E, F>(isa, y, span, next);
        }
        if is_clean || sum.is_finite() {
            return isa.outline(Widened { formula: PhantomData::<F>, y, span, scale, scratch, guards });
        }
        clean(y, span.source(), F::MASKED, &mut cleaned);
    }
}

fn is_f16<E: Element>() -> bool {
    E::LIMITS.max < power(16)
}

/// Sum of a lane's terms, compiled as a separate function. The sum is not finite if a term is not finite.
struct Sum<'a, E, F> {
    formula: PhantomData<F>,
    y: &'a [E],
    dy: &'a [E],
}

impl<E: Element, F: Formula> Kernel for Sum<'_, E, F> {
    type Out = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let [sum] = sums_o_beside(
            isa,
            ([self.y, self.dy], E::ZERO),
            ([], E::ZERO),
            #[inline(always)]
            |_, [y, dy], [], [sum]| [F::add(isa, y, dy, sum)],
        );
        sum
    }
}

/// Parameters of the second pass in f32.
struct Short {
    scale: f32,
    /// Product of the lane's sum and the scale, as a high and a low part.
    sum: (f32, f32),
}

impl Short {
    /// Smallest magnitude of the scale at which the second pass is computed in f32.
    const LEAST: f64 = power(-60);
    /// Limit for the product of the lane's sum and the scale. Subtracting a number below this limit from a bf16 does
    /// not overflow f32, because the largest f32 minus the largest bf16 is almost 2^120.
    const LARGEST: f64 = power(119);

    /// Returns `None` if the second pass could overflow or lose digits in f32.
    #[inline(always)]
    fn new<E: Element>(sum: f64, scale: f64) -> Option<Self> {
        // The product of an f16 and a scale of at most 2^60 does not overflow f32.
        let limit = if is_f16::<E>() { power(60) } else { 1.0 };
        let rounded = scale as f32;
        let sum = sum * f64::from(rounded);
        let high = sum as f32;
        let fits = (Self::LEAST..=limit).contains(&scale.abs()) && sum.abs() < Self::LARGEST;
        fits.then(|| Short { scale: rounded, sum: (high, (sum - f64::from(high)) as f32) })
    }

    #[inline(always)]
    fn write<'d, I: Isa, E: Element, F: Formula>(
        self,
        isa: I,
        y: &[E],
        span: Span<'_, 'd, E, E>,
        next: Next<E>,
    ) -> &'d mut [E] {
        let exp = F::exp(isa);
        let scale = isa.f32(self.scale);
        let sum = (isa.f32(self.sum.0), isa.f32(self.sum.1));
        narrow::<I, E, F>(
            isa,
            y,
            span,
            #[inline(always)]
            |i, y, dy| {
                next.block(i);
                F::short(isa, exp, y, dy, scale, sum)
            },
        )
    }
}

/// Calls `f` with each block of `y` and the block of the span's source at the same index, and writes the result. `f`
/// must not return a NaN.
#[inline(always)]
fn narrow<'d, I: Isa, E: Element, F: Formula>(
    isa: I,
    y: &[E],
    span: Span<'_, 'd, E, E>,
    mut f: impl FnMut(usize, I::F32, I::F32) -> I::F32,
) -> &'d mut [E] {
    if F::LONG {
        return span.map_with(
            isa,
            [y],
            #[inline(always)]
            |i, dy: I::F32, [y]| f(i, E::load(isa, y), dy),
        );
    }
    span.map_with(
        isa,
        [y],
        #[inline(always)]
        |i, dy: I::F32, [y]| NotNan(f(i, E::load(isa, y), dy)),
    )
}

/// Returns 2^exponent.
const fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The next lane of `y`, and the next lanes of the source and the destination. The second pass prefetches these lanes
/// if `far` is set.
#[derive(Clone, Copy)]
struct Next<E> {
    y: PrefetchRow<E>,
    span: PrefetchSpan<E, E>,
    far: bool,
}

impl<E: Element> Next<E> {
    #[inline(always)]
    fn new(y: &[E], span: &Span<'_, '_, E, E>) -> Self {
        Next { y: PrefetchRow::of(y, 1), span: span.next(1), far: span.is_far() }
    }

    #[inline(always)]
    fn block(self, index: usize) {
        if self.far {
            self.y.block(index);
            self.span.block(index);
        }
    }
}

/// Gradients of a lane of f32 or f64, compiled as a separate function.
struct Wide<'a, 's, E, F> {
    formula: PhantomData<F>,
    y: &'a [E],
    span: Span<'s, 's, E, E>,
    scale: f64,
    guards: &'a mut GuardCounts,
}

impl<'s, E: Element, F: Formula> Kernel for Wide<'_, 's, E, F> {
    type Out = &'s mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'s mut [E] {
        let Wide { y, span, scale, guards, .. } = self;
        let mut cleaned = Vec::new();
        loop {
            let is_clean = !cleaned.is_empty();
            let dy = if is_clean { &cleaned[..] } else { span.source() };
            let sums = Sums::of::<I, E, F>(isa, y, dy, scale);
            if sums.sum.0.is_finite() {
                count_masked(y, sums.sum.0, F::MASKED, guards);
                let next = Next::new(y, &span);
                let span = if is_clean { span.reading(&cleaned) } else { span };
                return sums.write::<I, E, F>(isa, y, span, next);
            }
            if is_clean {
                return spoil(y, &cleaned, F::MASKED, span, guards);
            }
            clean(y, span.source(), F::MASKED, &mut cleaned);
        }
    }
}

/// Returns the largest unmasked magnitude of a lane of f64. It may be +inf; a NaN is ignored.
#[inline(always)]
fn largest<I: Isa, E: Element>(isa: I, y: &[E], dy: &[E], masked: f64) -> f64 {
    let zero = isa.f64(0.0);
    let largest = fold_with(
        dy,
        E::ZERO,
        [y],
        zero,
        #[inline(always)]
        |largest, _, dy, [y]| {
            let masked = E::load_wide(isa, y).eq(isa.f64(masked));
            I::F64::select(masked, zero, E::load_wide(isa, dy)).abs().max(largest)
        },
    );
    isa.max_f64(largest)
}

/// Copies the gradients `dy` to a buffer, with 0 at masked positions.
#[cold]
#[inline(never)]
fn clean<E: Element>(y: &[E], dy: &[E], masked: f64, to: &mut Vec<E>) {
    to.extend(y.iter().zip(dy).map(|(y, dy)| if y.widen() == masked { E::ZERO } else { *dy }));
}

/// Writes NaN to the unmasked positions of a lane, and 0 to the masked ones. Counts the lane in the report.
#[cold]
#[inline(never)]
fn spoil<'d, E: Element>(
    y: &[E],
    dy: &[E],
    masked: f64,
    span: Span<'_, 'd, E, E>,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    let is_nan = y.iter().chain(dy).any(|v| v.widen().is_nan());
    guards.counts.nan += u64::from(is_nan);
    guards.counts.infinite += u64::from(!is_nan);
    let result = |y: &E| if y.widen() == masked { E::ZERO } else { E::NAN };
    let to = span.fill(E::NAN);
    for (to, y) in to.iter_mut().zip(y) {
        *to = result(y);
    }
    to
}

/// Counts the lane if it is fully masked. The sum of a fully masked lane is 0, so lanes with another sum are not
/// checked.
#[inline(always)]
fn count_masked<E: Element>(y: &[E], sum: f64, masked: f64, guards: &mut GuardCounts) {
    if sum == 0.0 {
        guards.counts.fully_masked += u64::from(y.iter().all(|y| y.widen() == masked));
    }
}

/// Sum of a lane of f32 or f64, and the factors of the second pass.
struct Sums {
    /// Sum of the formula's terms, as a high and a low part; not finite if a term is not.
    sum: (f64, f64),
    scale: f64,
    /// Power of two by which f64 gradients are multiplied first. Either `scale` or `down` cancels this power.
    up: f64,
    down: f64,
}

impl Sums {
    #[inline(always)]
    fn of<I: Isa, E: Element, F: Formula>(isa: I, y: &[E], dy: &[E], scale: f64) -> Self {
        if !E::IS_F64 {
            // The scale is clamped to at most 2^700 in magnitude, so that products do not overflow f64. With a larger
            // scale, all gradients but 0 overflow f32 anyway. The scale is rounded to 29 bits, so that its product with
            // an f32 mean is exact. If all dy of a lane are equal, its gradients are then 0.
            const LOW: u64 = (1 << (53 - 29)) - 1;
            let scale = scale.clamp(-power(700), power(700));
            let scale = f64::from_bits((scale.to_bits() + LOW / 2 + 1) & !LOW);
            return Sums { sum: (Sum { formula: PhantomData::<F>, y, dy }.run(isa), 0.0), scale, up: 1.0, down: 1.0 };
        }
        let (up, range) = normaliser(largest(isa, y, dy, F::MASKED));
        let (grid, factor) = (isa.f64(grid(range)), isa.f64(up));
        let [high, low] = sums_o_beside(
            isa,
            ([y, dy], E::ZERO),
            ([], E::ZERO),
            #[inline(always)]
            |_, [y, dy], [], [high, low]| {
                let (term, rest) = F::terms(isa, E::load_wide(isa, y), E::load_wide(isa, dy) * factor);
                let part = (term + grid) - grid;
                [high + part, low + ((term - part) + rest)]
            },
        );
        let sum = high + low;
        // Exactly one of `scale` and `down` cancels `up`. With this choice, a product overflows or loses digits only if
        // the result does.
        let (scale, down) = if up > 1.0 && scale.abs() > 1.0 { (scale / up, 1.0) } else { (scale, 1.0 / up) };
        Sums { sum: (sum, low - (sum - high)), scale, up, down }
    }

    /// Writes the gradients, in a second pass.
    #[inline(always)]
    fn write<'d, I: Isa, E: Element, F: Formula>(
        &self,
        isa: I,
        y: &[E],
        span: Span<'_, 'd, E, E>,
        next: Next<E>,
    ) -> &'d mut [E] {
        let scale = isa.f64(self.scale);
        if !E::IS_F64 {
            let sum = self.sum.0 * self.scale;
            if F::ROUNDED_EXP && sum.abs() >= power(100) {
                let sum = (isa.f64(self.sum.0), isa.f64(self.sum.1));
                return narrow::<I, E, F>(
                    isa,
                    y,
                    span,
                    #[inline(always)]
                    |_, y, dy| {
                        // Adding 0 makes -0 into +0.
                        isa.narrow(F::double(isa, isa.widen(y), isa.widen(dy), sum) * scale + isa.f64(0.0))
                    },
                );
            }
            let (exp, sum) = (F::exp(isa), isa.f64(sum));
            return narrow::<I, E, F>(
                isa,
                y,
                span,
                #[inline(always)]
                |i, y, dy| {
                    next.block(i);
                    F::wide(isa, exp, y, dy, scale, sum)
                },
            );
        }
        let sum = (isa.f64(self.sum.0), isa.f64(self.sum.1));
        let (up, down) = (isa.f64(self.up), isa.f64(self.down));
        span.map_with(
            isa,
            [y],
            #[inline(always)]
            |i, dy: I::F64, [y]| {
                next.block(i);
                let gradient = F::double(isa, E::load_wide(isa, y), dy * up, sum);
                // Adding 0 makes -0 into +0.
                gradient * scale * down + isa.f64(0.0)
            },
        )
    }
}

/// Gradients of a row of f16 or bf16, computed in f32.
struct Widened<'a, 's, E, F> {
    formula: PhantomData<F>,
    y: &'a [E],
    span: Span<'s, 's, E, E>,
    scale: f64,
    scratch: &'a mut Scratch,
    guards: &'a mut GuardCounts,
}

impl<'s, E: Element, F: Formula> Kernel for Widened<'_, 's, E, F> {
    type Out = &'s mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'s mut [E] {
        let Widened { formula, y, span, scale, scratch, guards } = self;
        let wide_y = scratch_slice(&mut scratch.widened, y.len());
        let wide_dy = scratch_slice(&mut scratch.made.f32s, y.len());
        for (wide, source) in [(&mut *wide_y, y), (&mut *wide_dy, span.source())] {
            Span::in_place(wide).reading(source).map(
                isa,
                #[inline(always)]
                |_, v: I::F32| v,
            );
        }
        isa.outline(Wide { formula, y: &*wide_y, span: Span::in_place(&mut *wide_dy), scale, guards });
        span.reading(wide_dy).map(
            isa,
            #[inline(always)]
            |_, v: I::F32| v,
        )
    }
}
