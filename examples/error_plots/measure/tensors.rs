//! Rounding errors of functions of whole tensors: of `inspect` for different numbers of elements, and of gradient
//! clipping for different magnitudes of the elements.

use super::{Case, Curves};
use crate::naive;
use evenkeel::reference::{self, Real};
use evenkeel::testing::workloads;
use evenkeel::{ClipGradNorm, ClipMode, Element, NormType};

/// Number of gradients.
const LEN: usize = 1024;
/// Limit for `clip_grad_value`, as a fraction of the gradients' magnitude. No storage type represents this fraction
/// exactly.
const LIMIT: f64 = 0.7;

pub fn curves<E: Element>(op: &str) -> Option<Curves> {
    Some(match op {
        // The error of the mean is in ULP of the largest number. The error of the standard deviation is in ULP of the
        // exact standard deviation. Both results are rounded to the storage type.
        "inspect" => {
            let lengths = (2..=34).map(|step| 2f64.powf(f64::from(step) / 2.0).round() as usize);
            Curves::new("elements", true, lengths.map(|len| (len as f64, inspected::<E>(len))))
        }
        "clip_grad_norm" => of_magnitudes(|grads: &[E], magnitude| {
            let norm = reference::grad_norm(&[grads.into()], NormType::Two);
            let exact = reference::clip_grad_norm(grads, norm, magnitude, ClipMode::Exact);
            let mut ours = grads.to_vec();
            let done = evenkeel::clip_grad_norm(&mut [(&mut ours).into()], &ClipGradNorm::new(magnitude));
            Case::new(exact, done.map(|_| ours), naive::clip_grad_norm(grads, magnitude))
        }),
        "clip_grad_value" => of_magnitudes(|grads: &[E], magnitude| {
            let limit = LIMIT * magnitude;
            let exact = grads.iter().map(|g| reference::clip_grad_value(E::Exact::from(g.widen()), limit)).collect();
            let mut ours = grads.to_vec();
            let done = evenkeel::clip_grad_value(&mut [(&mut ours).into()], limit);
            Case::new(exact, done.map(|()| ours), grads.iter().map(|&g| naive::clip_grad_value(g, limit)).collect())
        }),
        _ => return None,
    })
}

fn inspected<E: Element>(len: usize) -> Case<E> {
    let x = workloads::numbers::<E>(len);
    let exact =
        reference::inspect(&x).expect("the numbers to inspect must be finite").map(E::Exact::from_double_double);
    let stats = evenkeel::inspect(&x);
    let ours = stats.clone().map(|stats| [stats.mean, stats.std].map(E::from_wide).to_vec());
    let largest = [stats.map_or(0.0, |stats| stats.max_abs), 0.0];
    Case::new(exact.to_vec(), ours, naive::inspect(&x).to_vec()).beside(|i| largest[i])
}

/// Measures clipping of gradients of increasing magnitude. `case` gets the gradients and their magnitude.
fn of_magnitudes<E: Element>(case: impl Fn(&[E], f64) -> Case<E>) -> Curves {
    let magnitudes = (-60..=60).map(|step| 10f64.powf(f64::from(step) / 2.0));
    let numbers = workloads::numbers::<f64>(LEN);
    let grads = |magnitude: f64| numbers.iter().map(|g| E::from_wide(g * magnitude)).collect::<Vec<E>>();
    Curves::new("magnitude", true, magnitudes.map(|magnitude| (magnitude, case(&grads(magnitude), magnitude))))
}
