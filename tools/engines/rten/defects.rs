//! Tests that fail in the unchanged rten, and pass once it uses Evenkeel. For these inputs, rten's own sampler and
//! filters panic or draw an impossible token.

use rten_generate::Logits;
use rten_generate::filter::{Chain, LogitsFilter, Temperature, TopK};
use rten_generate::sampler::{ArgMax, Multinomial, Sampler};

/// Outcome of a draw. rten's own sampler returns a token, and the sampler with Evenkeel returns a `Result`.
trait Outcome {
    fn token(self) -> Option<u32>;
}

impl Outcome for u32 {
    fn token(self) -> Option<u32> {
        Some(self)
    }
}

impl<E> Outcome for Result<u32, E> {
    fn token(self) -> Option<u32> {
        self.ok()
    }
}

#[test]
fn a_nan_is_refused() {
    let logits = Logits::dense(vec![0.1, f32::NAN, 0.5]);
    assert_eq!(Multinomial::with_seed(1234).sample(&logits).token(), None);
    assert_eq!(ArgMax::new().sample(&logits).token(), None);
}

#[test]
fn a_positive_infinity_is_certain() {
    let logits = Logits::dense(vec![0.1, f32::INFINITY, 0.5]);
    assert_eq!(Multinomial::with_seed(1234).sample(&logits).token(), Some(1));
}

#[test]
fn a_temperature_of_zero_is_greedy() {
    let logits = Temperature::new(0.0).filter(Logits::dense(vec![0.0, 2.0, 1.0]), &[]);
    assert_eq!(Multinomial::with_seed(1234).sample(&logits).token(), Some(1));
}

#[test]
fn a_top_k_above_the_number_of_tokens_keeps_all() {
    let chain = Chain::new().top_k(50).append(TopK::new(4));
    assert_eq!(chain.filter(Logits::dense(vec![0.0, 2.0, 1.0]), &[]).len(), 3);
}
