//! Searches for the rows on which the norms' gradients have the largest errors: near-constant rows, gradients that
//! cancel, and rows whose errors a search increases.

use crate::support::few_values::{FAMILIES, FewValues};
use crate::support::generate::{self, Bits};
use crate::support::norms::Norm;
use crate::support::ulp::{self, Expected};
use evenkeel::reference::Real;
use evenkeel::{Element, LayerNorm, RmsNorm, Rows, accuracy, layer_norm_backward, reference, rms_norm_backward};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(near_constant_rows, rows_that_get_worse);

#[derive(Clone)]
struct Case<E> {
    x: Vec<E>,
    dy: Vec<E>,
    weight: Vec<f32>,
    eps: f64,
    is_centred: bool,
}

impl<E: Bits> Case<E> {
    fn new(rng: &mut SmallRng, x: Vec<E>, is_centred: bool) -> Self {
        let len = x.len();
        let magnitude = 2f64.powi(rng.random_range(-6..6));
        let mut dy = match rng.random_range(0..4) {
            0 => generate::bell::<E>(rng, len, 0.0, magnitude),
            // A constant gradient. A centred norm removes it.
            1 => vec![E::from_wide(magnitude); len],
            // A gradient proportional to the distances from the row's first element. A centred norm removes this
            // gradient, too.
            2 => {
                let base = x[0].widen();
                x.iter().map(|x| E::from_wide((x.widen() - base) * magnitude)).collect()
            }
            _ => vec![E::ZERO; len],
        };
        dy[rng.random_range(0..len)] = E::from_wide(magnitude);
        // Distances that overflow the type become zeros.
        dy.iter_mut().filter(|dy| !dy.widen().is_finite()).for_each(|dy| *dy = E::ZERO);
        let spread = if rng.random() { 0.3 } else { 0.0 };
        let weight = generate::bell::<f32>(rng, len, 1.0, spread);
        Case { x, dy, weight, eps: [0.0, 1e-5][rng.random_range(0..2)], is_centred }
    }

    fn name(&self) -> &'static str {
        if self.is_centred { "layer_norm_backward" } else { "rms_norm_backward" }
    }

    /// Returns the largest error of dx and the largest error of dweight, in ULP of the largest term. Each error is
    /// paired with its column.
    fn errors(&self) -> [(f64, usize); 2] {
        let Case { x, dy, weight, eps, is_centred } = self;
        let (eps, len) = (*eps, x.len());
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let view = |data| Rows::new(data, 1, len).unwrap();
        let (dx, dweight) = if *is_centred {
            let gradients =
                layer_norm_backward(view(x), view(dy), &LayerNorm::default().weight(weight).eps(eps)).unwrap();
            (gradients.dx, gradients.dweight)
        } else {
            let gradients = rms_norm_backward(view(x), view(dy), &RmsNorm::default().weight(weight).eps(eps)).unwrap();
            (gradients.dx, gradients.dweight)
        };
        let (exact, exact_weight) = if *is_centred {
            let exact = reference::layer_norm_backward(x, dy, Some(&wide), eps);
            (exact, reference::layer_norm_backward_weight(x, dy, len, eps))
        } else {
            let exact = reference::rms_norm_backward(x, dy, Some(&wide), 0.0, eps);
            (exact, reference::rms_norm_backward_weight(x, dy, len, eps, false))
        };
        let norm = Norm { centred: *is_centred, eps, weight: Some(&wide) };
        let [weight_terms, _] = norm.column_terms(x, dy, len);
        [largest(&dx, &exact, &norm.terms(x, dy)), largest(&dweight.unwrap(), &exact_weight, &weight_terms)]
    }

    #[track_caller]
    fn check(&self, what: &str, worst: &mut [f64; 2]) -> f64 {
        let bound = accuracy::bound(self.name(), E::DTYPE).unwrap().ulps;
        let errors = self.errors();
        for (which, error) in ["dx", "dweight"].into_iter().zip(errors) {
            let ((error, at), Case { x, dy, weight, eps, .. }) = (error, self);
            assert!(
                error <= bound,
                "{} in {}, {what}, eps {eps}: expected an error of at most {bound} ULP in {which}, got {error:.4} ULP \
                 at column {at}, for the weight {:?}, x {x:?} and dy {dy:?}",
                self.name(),
                E::DTYPE,
                weight[at]
            );
        }
        let errors = errors.map(|(error, _)| error);
        *worst = [errors[0].max(worst[0]), errors[1].max(worst[1])];
        errors[0].max(errors[1])
    }
}

fn largest<E: Element>(got: &[E], exact: &[E::Exact], terms: &[f64]) -> (f64, usize) {
    // A term that overflows f64 has no ULP.
    let errors = (0..got.len()).filter(|&i| terms[i].is_finite()).map(|i| (error(got[i], exact[i], terms[i]), i));
    errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0))
}

fn error<E: Element>(got: E, exact: E::Exact, term: f64) -> f64 {
    let result = ulp::toward_zero(exact);
    if !result.is_finite() || term.max(result) <= E::LIMITS.max {
        return ulp::error_at(got, exact, if result.is_finite() { term.max(result) } else { result });
    }
    // A term beyond the type's range has the ULP of a type with the same precision and a larger exponent range. An
    // infinity counts as the largest finite value.
    let ulp = 2f64.powf(term.max(result).log2().floor()) * E::LIMITS.epsilon;
    let within = |value: f64| value.clamp(-E::LIMITS.max, E::LIMITS.max);
    (within(got.widen()) - within(exact.wide().to_f64())).abs() / ulp
}

fn near_constant_rows<E: Bits>() {
    let mut rng = generate::rng("gradients of near-constant rows");
    for is_centred in [true, false] {
        let mut worst = [0.0; 2];
        for magnitude in [E::LIMITS.max / 2.0, 1e173, 1.0, 1e-200, E::LIMITS.min_subnormal] {
            // Equal elements, however large, have a variance of 0. A centred norm then divides by sqrt(eps).
            let x = vec![E::from_wide(magnitude); 5];
            if x[0].widen().is_finite() {
                Case { eps: 1e-5, ..Case::new(&mut rng, x, is_centred) }.check("equal elements", &mut worst);
            }
        }
        for _ in 0..60 {
            // The lengths are evenly distributed on a logarithmic scale.
            let len = 2f64.powf(rng.random_range(1.0..14.0)) as usize;
            for family in 0..FAMILIES {
                let (x, _) = FewValues::<E>::of_family(&mut rng, len, family).row();
                let what = format!("family {family} of {len}");
                Case::new(&mut rng, x, is_centred).check(&what, &mut worst);
            }
        }
        println!("{} {}, near-constant rows: worst {worst:.4?} ULP of dx and dweight", name(is_centred), E::DTYPE);
    }
}

fn name(is_centred: bool) -> &'static str {
    if is_centred { "layer_norm_backward" } else { "rms_norm_backward" }
}

/// Keeps each change of an element of x or dy that does not reduce the error.
fn rows_that_get_worse<E: Bits>() {
    let mut rng = generate::rng("gradients that get worse");
    for is_centred in [true, false] {
        let mut worst = [0.0; 2];
        for _ in 0..10 {
            let (len, family) = (rng.random_range(2..200), rng.random_range(0..FAMILIES));
            let (x, _) = FewValues::<E>::of_family(&mut rng, len, family).row();
            let mut case = Case::new(&mut rng, x, is_centred);
            let mut error = 0.0;
            for _ in 0..100 {
                let mut changed = case.clone();
                let values = if rng.random() { &mut changed.x } else { &mut changed.dy };
                let at = rng.random_range(0..len);
                let steps =
                    if rng.random() { rng.random_range(-9..=9) } else { 1 << rng.random_range(0..E::WIDTH - 2) };
                let value = E::at_place(values[at].place().saturating_add(steps));
                // Terms of the gradient must stay within the range of the type.
                if value.widen().abs() <= E::LIMITS.max / 1e4 {
                    values[at] = value;
                }
                let changed_error = changed.check("which got worse", &mut worst);
                if changed_error >= error {
                    (case, error) = (changed, changed_error);
                }
            }
        }
        println!("{} {}, rows that get worse: worst {worst:.4?} ULP of dx and dweight", name(is_centred), E::DTYPE);
    }
}
