//! Rows that break naive formulas: fixed rows with names, and strategies for proptest.
//!
//! ```
//! use evenkeel::testing::{hostile, within};
//! use evenkeel::{Rows, Softmax, reference, softmax};
//! use half::bf16;
//! use proptest::prelude::*;
//!
//! // Each of these rows breaks e^x / sum e^x.
//! for hostile::Hostile { name, row } in hostile::scores::<bf16>(100) {
//!     let y = softmax(Rows::new(&row, 1, row.len())?, &Softmax::default())?;
//!     within(name, &row, &y, &reference::softmax(&row).unwrap(), 0.51).unwrap();
//! }
//!
//! // Many of these rows break it too.
//! proptest!(|(row in hostile::rows::<bf16>(1..=4096))| {
//!     let y = softmax(Rows::new(&row, 1, row.len())?, &Softmax::default())?;
//!     within("softmax", &row, &y, &reference::softmax(&row).unwrap(), 0.51).unwrap();
//! });
//! # Ok::<(), evenkeel::Error>(())
//! ```

use super::values::special;
use crate::element::Element;
use proptest::collection::SizeRange;
use proptest::prelude::*;

/// Generates rows of finite values, from [`any_finite`], [`bell`], [`scores`] and [`norms`]. Any function of rows must
/// accept these rows.
pub fn rows<E: Element>(lengths: impl Into<SizeRange>) -> impl Strategy<Value = Vec<E>> {
    let lengths = lengths.into();
    prop_oneof![
        2 => any_finite(lengths.clone()),
        2 => bell(lengths.clone()),
        1 => one_of(lengths.clone(), scores),
        1 => one_of(lengths, norm_rows),
    ]
}

/// Generates rows for norms: rows with large or tiny squares, or with a tiny spread around a large mean.
pub fn norms<E: Element>(lengths: impl Into<SizeRange>) -> impl Strategy<Value = Vec<E>> {
    one_of(lengths.into(), norm_rows)
}

/// Generates rows of logits for a sampler, with at least one logit above -inf. They include peaked rows, equal logits,
/// masked logits and logits that are far apart.
///
/// ```
/// use evenkeel::testing::hostile;
/// use evenkeel::{Draw, SamplerConfig};
/// use proptest::prelude::*;
///
/// let sampler = SamplerConfig::default().top_k(50).top_p(0.9).validate()?;
/// proptest!(|(logits in hostile::logits::<f32>(1..=1000))| {
///     let sampled = sampler.sample(&logits, Draw::default()).unwrap();
///     prop_assert!(logits[sampled.token as usize] > f32::NEG_INFINITY);
/// });
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn logits<E: Element>(lengths: impl Into<SizeRange>) -> impl Strategy<Value = Vec<E>> {
    let far = E::LIMITS.max.min(1e30);
    let logit = prop_oneof![
        8 => -8.0..8.0f64,
        4 => (-2..=2i8).prop_map(f64::from),
        2 => Just(f64::NEG_INFINITY),
        1 => prop::sample::select(vec![-far, -1e4, far, 60.0]),
    ];
    (prop::collection::vec(logit, lengths), -8.0..8.0f64).prop_map(|(mut row, alive)| {
        if row.iter().all(|z| *z == f64::NEG_INFINITY)
            && let Some(first) = row.first_mut()
        {
            *first = alive;
        }
        row.into_iter().map(E::from_wide).collect()
    })
}

/// Generates one flag for each position of a row, where `true` keeps the position. The flags are random, a prefix of
/// `true`, a single `true`, all `true`, or all `false`.
pub fn masks(lengths: impl Into<SizeRange>) -> impl Strategy<Value = Vec<bool>> {
    (prop::collection::vec(any::<bool>(), lengths), 0..5u8, any::<prop::sample::Index>()).prop_map(
        |(mut keep, kind, at)| {
            let at = if keep.is_empty() { 0 } else { at.index(keep.len()) };
            for (i, keep) in keep.iter_mut().enumerate() {
                *keep = match kind {
                    0 => *keep,
                    1 => i < at,
                    2 => i == at,
                    3 => true,
                    _ => false,
                };
            }
            keep
        },
    )
}

/// Generates one of the fixed rows, with a random length.
fn one_of<E: Element>(lengths: SizeRange, rows: fn(usize) -> Vec<Hostile<E>>) -> impl Strategy<Value = Vec<E>> {
    let len = prop::collection::vec(Just(()), lengths).prop_map(|units| units.len());
    (len, any::<prop::sample::Selector>()).prop_map(move |(len, which)| which.select(rows(len)).row)
}

fn norm_rows<E: Element>(len: usize) -> Vec<Hostile<E>> {
    let mut rows = vectors(len);
    rows.push(far_mean(len));
    rows
}

/// Returns a pseudo-random multiple of 1/1024 below 1.
pub fn scattered(i: usize) -> f64 {
    (((i * 2_654_435_761) >> 7) % 1024) as f64 / 1024.0
}

/// A row that breaks a naive formula.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "it is a row and its name")]
pub struct Hostile<E> {
    /// Description of the row.
    pub name: &'static str,
    /// Values of the row.
    pub row: Vec<E>,
}

/// Returns rows of extreme scores that attention or a language model may pass to a softmax.
pub fn scores<E: Element>(len: usize) -> Vec<Hostile<E>> {
    let limits = E::LIMITS;
    // e^high overflows, but near `high` the type can still represent small differences.
    let high = 2.0 * limits.exp_max;
    let far = (limits.max / 4.0).min(2f64.powi(28));
    let noise = |i: usize| 8.0 * scattered(i);
    let row = |name, f: &dyn Fn(usize) -> f64| Hostile { name, row: (0..len).map(|i| E::from_wide(f(i))).collect() };
    vec![
        row("one huge", &|i| if i == len / 2 { far } else { noise(i) }),
        row("all equal", &|_| high),
        row("all at the largest value", &|_| limits.max),
        row("alternating sign", &|i| if i.is_multiple_of(2) { high + noise(i) } else { -high - noise(i) }),
        row("far from zero", &|i| far + noise(i) * far * limits.epsilon),
        row("far below zero", &|i| -far - noise(i) * far * limits.epsilon),
        row("peaked", &|i| if i == len / 3 { high + 40.0 } else { high - noise(i) }),
        row("down to subnormal results", &|i| high + limits.exp_min * i as f64 / len as f64),
        row("beyond the smallest result", &|i| high + 2.0 * limits.exp_min * i as f64 / len as f64),
        row("finite fills", &|i| if i % 3 == 1 { (-1e9f64).max(-limits.max) } else { high + noise(i) }),
        row("lowest finite fills", &|i| if i % 3 == 1 { -limits.max } else { high + noise(i) }),
    ]
}

/// Returns rows for norms. The squares of the elements overflow or underflow, or one element is much larger than the
/// others.
pub fn vectors<E: Element>(len: usize) -> Vec<Hostile<E>> {
    let limits = E::LIMITS;
    let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let noise = |i: usize| 1.0 + scattered(i);
    let row = |name, f: &dyn Fn(usize) -> f64| Hostile { name, row: (0..len).map(|i| E::from_wide(f(i))).collect() };
    vec![
        row("squares overflow", &|i| sign(i) * noise(i) * (limits.max / 4.0)),
        row("squares vanish", &|i| sign(i) * noise(i) * limits.min_normal),
        row("subnormal", &|i| sign(i) * noise(i).round() * limits.min_subnormal),
        row("one huge", &|i| if i == len / 2 { limits.max } else { noise(i) }),
    ]
}

/// Returns a row with a tiny spread around a large mean. For this row, mean(x^2) - mean(x)^2 has no correct digits.
pub fn far_mean<E: Element>(len: usize) -> Hostile<E> {
    let far = (1.0 / E::LIMITS.epsilon) * 0.75;
    let row = (0..len).map(|i| E::from_wide(far + (2.0 * scattered(i)).floor())).collect();
    Hostile { name: "far from zero", row }
}

/// Generates rows of finite values of every kind: numbers between -20 and 20, random bit patterns, and special values.
pub fn any_finite<E: Element>(lengths: impl Into<SizeRange>) -> impl Strategy<Value = Vec<E>> {
    let value = prop_oneof![
        4 => (-20.0..20.0f64).prop_map(E::from_wide),
        1 => any::<u64>().prop_map(E::from_bits),
        1 => prop::sample::select(special::<E>()),
    ];
    prop::collection::vec(value.prop_map(|v| if v.widen().is_finite() { v } else { E::ZERO }), lengths)
}

/// Generates rows of values around a mean, which may be large.
pub fn bell<E: Element>(lengths: impl Into<SizeRange>) -> impl Strategy<Value = Vec<E>> {
    let unit = prop::collection::vec(-1.0..1.0f64, lengths);
    (unit, -1e3..1e3f64, 0.01..50.0f64)
        .prop_map(|(row, mean, spread)| row.into_iter().map(|u| E::from_wide(mean + spread * u)).collect())
}
