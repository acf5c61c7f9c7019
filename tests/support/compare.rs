//! Comparisons that report each difference with its position. A comparison succeeds only if every error is within the
//! bound. A NaN passes only where NaN is expected.

pub use evenkeel::testing::{all_within, assert_same_bits, same_bits, show, within, within_terms};
use evenkeel::{DType, Element, accuracy};
use std::cell::Cell;

/// Measured bounds in ULP by op and type, for rows whose rounding errors do not all have the same sign. The measured
/// bounds are smaller than the derived bounds.
const USUAL: [(&str, DType, f64); 22] = [
    ("cross_entropy", DType::F32, 2.0),
    ("cross_entropy", DType::F16, 2.0),
    ("cross_entropy", DType::BF16, 2.0),
    ("cross_entropy_backward", DType::F32, 2.0),
    ("group_norm", DType::F64, 4.0),
    ("l2_normalize", DType::F64, 4.0),
    ("layer_norm", DType::F64, 4.0),
    ("layer_norm_backward", DType::F64, 8.0),
    ("log_softmax", DType::F32, 2.0),
    ("log_softmax_backward", DType::F32, 2.0),
    ("log_softmax_backward", DType::F64, 4.0),
    ("logsumexp", DType::F32, 2.0),
    ("logsumexp", DType::F64, 2.0),
    ("logsumexp_backward", DType::F32, 2.0),
    ("logsumexp_backward", DType::F64, 4.0),
    ("qk_norm_rope", DType::F64, 8.0),
    ("rms_norm", DType::F64, 4.0),
    ("rms_norm_backward", DType::F64, 8.0),
    ("rms_norm_linear", DType::F64, 8.0),
    ("softmax", DType::F32, 2.0),
    ("softmax_backward", DType::F32, 2.0),
    ("softmax_backward", DType::F64, 4.0),
];

/// Returns the bound of the accuracy table in ULP, which holds for every row.
pub fn of_every_row<E: Element>(op: &str) -> f64 {
    accuracy::bound(op, E::DTYPE)
        .unwrap_or_else(|| panic!("`accuracy::bound` must have a bound for {op} in {}", E::DTYPE))
        .ulps
}

/// Returns the bound in ULP for rows whose rounding errors do not all have the same sign. For ops that [`USUAL`] does
/// not list, this is the bound of the accuracy table.
pub fn usual<E: Element>(op: &str) -> f64 {
    let listed = USUAL.iter().find(|(name, dtype, _)| *name == op && *dtype == E::DTYPE);
    listed.map_or_else(|| of_every_row::<E>(op), |(.., ulps)| *ulps)
}

/// Checks results of one op in one storage type against the accuracy table. Prints the worst error when dropped.
pub struct Checker {
    op: &'static str,
    dtype: DType,
    bound: f64,
    worst: Cell<f64>,
    results: Cell<usize>,
}

impl Checker {
    /// Creates a checker with the op's bound from the accuracy table.
    pub fn new<E: Element>(op: &'static str) -> Self {
        Checker { op, dtype: E::DTYPE, bound: of_every_row::<E>(op), worst: Cell::default(), results: Cell::default() }
    }

    /// Creates a checker with the bound for rows whose rounding errors do not all have the same sign.
    pub fn of_usual_rows<E: Element>(op: &'static str) -> Self {
        let mut checker = Self::new::<E>(op);
        checker.bound = usual::<E>(op);
        checker
    }

    /// Creates a checker for rows of mostly equal scores. In f32 softmax, the exponentials of such a row have errors of
    /// up to 0.63 ULP, all with the same sign. The derived bound is the sum of three terms: twice 0.63 ULP for an
    /// exponential at the end of a binade, twice 0.63 ULP for the sum, and 0.5 ULP for the result.
    pub fn of_equal_scores<E: Element>(op: &'static str) -> Self {
        let mut checker = Self::new::<E>(op);
        if E::DTYPE == DType::F32 {
            checker.bound = 3.02;
        }
        checker
    }

    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// Fails unless every result is within the bound, in ULP of the result. A failure shows the elements of `input` if
    /// it is as long as the results. Otherwise, a failure shows only the length of `input`.
    #[track_caller]
    pub fn check<E: Element>(&self, what: &str, input: &[E], got: &[E], exact: &[E::Exact]) {
        self.finish(within(what, input, got, exact, self.bound), got.len());
    }

    /// Checks like [`Checker::check`], but measures an error in ULP of the result or of `largest(i)`, whichever is
    /// larger. `largest(i)` is the magnitude of the largest term in the sum that gives result `i`.
    #[track_caller]
    pub fn check_terms<E: Element>(
        &self,
        what: &str,
        input: &[E],
        got: &[E],
        exact: &[E::Exact],
        largest: &dyn Fn(usize) -> f64,
    ) {
        self.finish(within_terms(what, input, got, exact, largest, self.bound), got.len());
    }

    /// Checks like [`Checker::check`], but `error(i)` computes the error of result `i`.
    #[track_caller]
    pub fn check_errors<E: Element>(
        &self,
        what: &str,
        input: &[E],
        got: &[E],
        exact: &[E::Exact],
        error: &dyn Fn(usize) -> f64,
    ) {
        self.finish(all_within(what, input, got, exact, self.bound, error), got.len());
    }

    #[track_caller]
    fn finish(&self, outcome: Result<f64, String>, results: usize) {
        match outcome {
            Ok(worst) => self.worst.set(self.worst.get().max(worst)),
            Err(failure) => panic!("{} {}: {failure}", self.op, self.dtype),
        }
        self.results.set(self.results.get() + results);
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        println!(
            "{} {}: worst {:.4} of {} ULP in {} results",
            self.op,
            self.dtype,
            self.worst.get(),
            self.bound,
            self.results.get()
        );
    }
}
