//! Report of a suite, for the authors of an engine.

use crate::element::DType;
use std::fmt;

/// A known defect of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// A sum is accumulated in a type that is too narrow.
    NarrowSum,
    /// Intermediate results are rounded to a 16-bit storage type.
    NarrowSteps,
    /// Finite values of large magnitude cause an overflow.
    ExtremeValues,
    /// The result of a fully masked row is neither zeros nor uniform.
    MaskedRow,
    /// A masked position influences the result: for example, its probability is not 0.
    MaskedPosition,
    /// The result of a row with a NaN contains no NaN.
    HidesNan,
    /// A NaN in one row makes results of other rows NaN.
    NanSpreads,
    /// A row's result depends on the other rows.
    DependsOnBatch,
    /// The variance is computed as mean x^2 - mean^2.
    OnePassVariance,
    /// The mean is rounded before it is subtracted.
    RoundedMean,
    /// Finite values overflow when they are squared.
    SquaresOverflow,
    /// Non-zero values underflow to zero when they are squared.
    SquaresVanish,
    /// A target that is not a class is accepted.
    TargetOutOfRange,
    /// Top-p after top-k uses probabilities that are not renormalised over the kept tokens.
    UnrenormalisedCut,
    /// A filter keeps tokens that it must remove, or removes tokens that it must keep.
    WrongSupport,
    /// Frequencies of the drawn tokens do not match their probabilities.
    WrongDistribution,
    /// A masked token is drawn.
    DrawsMasked,
    /// A token is drawn from logits with a NaN.
    AcceptsNan,
    /// A token is drawn although there are no tokens, or only masked ones.
    AcceptsNothing,
    /// The same seed gives different tokens.
    NotRepeatable,
    /// The error is larger than the error of straightforward arithmetic in f32 or f64.
    Inaccurate,
    /// Valid input is rejected with an error.
    Refuses,
    /// The number of results differs from the number of elements.
    WrongLength,
    /// The function panics.
    Panics,
}

impl Defect {
    /// Returns the name of the defect.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Returns a text that explains the cause of the defect and a remedy.
    pub fn remedy(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Defect::NarrowSum => (
                "narrow sum",
                "A sum stops growing once its terms are below half an ULP of it: at 256 ones in bf16, at 2,048 in f16. \
                 Add in f32 or wider, and round the result once.",
            ),
            Defect::NarrowSteps => (
                "narrow steps",
                "Each intermediate result that is rounded to the storage type costs half an ULP, and much more in the \
                 argument of an exponential. Widen on load, round once on store.",
            ),
            Defect::ExtremeValues => (
                "extreme values overflow",
                "exp of a score of 89 overflows f32. Subtract the row's largest score first. Treat finite fill values \
                 such as -1e30 and the type's lowest value like any other score.",
            ),
            Defect::MaskedRow => (
                "fully masked row",
                "-inf minus a largest score of -inf is NaN. For a fully masked row, return zeros (-inf from \
                 log-softmax), uniform probabilities, or a typed error.",
            ),
            Defect::MaskedPosition => (
                "masked position",
                "A score of -inf must have a probability of exactly 0, and must not change the other probabilities.",
            ),
            Defect::HidesNan => (
                "hidden NaN",
                "A comparison with NaN is false, so a maximum computed with `>` ignores NaN. Keep the NaN in its own \
                 row, so that the layer that produced it can be found.",
            ),
            Defect::NanSpreads => ("NaN spreads", "A sequence with a NaN must not affect the others in its batch."),
            Defect::DependsOnBatch => (
                "depends on the batch",
                "If sums are split by the size of the batch, a request's tokens depend on the other requests. Let the \
                 order of a sum depend only on the row's length.",
            ),
            Defect::OnePassVariance => (
                "one-pass variance",
                "mean x^2 - mean^2 cancels all digits of a small spread around a large mean, and may be negative. \
                 Subtract the mean first, then square.",
            ),
            Defect::RoundedMean => (
                "rounded mean",
                "The error of the mean is as large as the differences of the values. Compute sum and mean in f64, or \
                 subtract the first value from all values beforehand.",
            ),
            Defect::SquaresOverflow => (
                "squares overflow",
                "The square of 1e20 overflows f32, and the square of 300 overflows f16. Square in f64, or divide by \
                 the row's largest value first.",
            ),
            Defect::SquaresVanish => (
                "squares vanish",
                "The square of 1e-25 is 0 in f32. Square in f64, or divide by the row's largest value first.",
            ),
            Defect::TargetOutOfRange => (
                "target out of range",
                "A target that is not below the number of classes has no loss. Return an error that names the target.",
            ),
            Defect::UnrenormalisedCut => (
                "cut that is not renormalised",
                "p refers to the tokens that top-k keeps. Divide by their total probability before applying \
                 top-p. Otherwise small k and p keep too many tokens.",
            ),
            Defect::WrongSupport => (
                "wrong tokens kept",
                "Apply the filters in this order. Top-k keeps the k largest logits. Top-p keeps the shortest prefix \
                 with a probability of at least p. Min-p keeps tokens with at least this share of the largest \
                 probability.",
            ),
            Defect::WrongDistribution => {
                ("wrong distribution", "Probabilities are e^(logit / temperature), normalised over the kept tokens.")
            }
            Defect::DrawsMasked => ("masked token drawn", "A token with a logit of -inf must not be drawn."),
            Defect::AcceptsNan => (
                "token from NaN",
                "Logits with NaN are a fault of the model, so any token is meaningless. Return an error with the \
                 position of the NaN.",
            ),
            Defect::AcceptsNothing => {
                ("token from nothing", "If all logits are -inf, no token may be drawn. Return an error.")
            }
            Defect::NotRepeatable => {
                ("not repeatable", "The token must depend only on the logits, the settings and the seed.")
            }
            Defect::Inaccurate => (
                "inaccurate",
                "On an ordinary row, the result has fewer correct digits than straightforward arithmetic gives.",
            ),
            Defect::Refuses => ("refuses", "The input is valid and its result is finite. Return the result."),
            Defect::WrongLength => ("wrong length", "Return one result for each element."),
            Defect::Panics => ("panic", "A server must survive any input. Return an error instead."),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A defect and a row that shows it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The defect.
    pub defect: Defect,
    /// Description of the row.
    pub row: String,
    /// Description of the actual and the expected result.
    pub what: String,
    /// Error of the worst result in ULP. It is infinite for a failure that ULPs cannot measure, such as a wrong NaN, a
    /// wrong length, a panic or a missing `Err`. It is NaN if the results were only compared bit by bit.
    pub ulps: f64,
}

/// Findings of a suite for one function and one storage type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "the defects are only in the report"]
pub struct Report {
    /// Name of the op.
    pub op: &'static str,
    /// The storage type.
    pub dtype: DType,
    /// Number of checks.
    pub checks: usize,
    /// Findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns whether there are no findings.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns whether a defect was found.
    pub fn has(&self, defect: Defect) -> bool {
        self.findings.iter().any(|finding| finding.defect == defect)
    }

    /// Returns the defects that were found, each once.
    pub fn defects(&self) -> Vec<Defect> {
        let mut defects: Vec<Defect> = Vec::new();
        for finding in &self.findings {
            if !defects.contains(&finding.defect) {
                defects.push(finding.defect);
            }
        }
        defects
    }

    /// Asserts that there are no findings.
    ///
    /// # Panics
    /// Panics with the report as message if there are findings.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

/// Maximum number of rows shown per defect.
const SHOWN: usize = 4;

/// Writes each defect once, with a remedy and the first rows that show the defect.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, dtype, checks) = (self.op, self.dtype, self.checks);
        let defects = self.defects();
        match defects.len() {
            0 => return write!(f, "{op} in {dtype}: no defects found in {checks} checks"),
            1 => write!(f, "{op} in {dtype}: 1 defect, found in {checks} checks")?,
            n => write!(f, "{op} in {dtype}: {n} defects, found in {checks} checks")?,
        }
        for defect in defects {
            write!(f, "\n\n  {defect}")?;
            let rows: Vec<&Finding> = self.findings.iter().filter(|finding| finding.defect == defect).collect();
            for Finding { row, what, .. } in rows.iter().take(SHOWN) {
                write!(f, "\n    {row}: {what}")?;
            }
            if rows.len() > SHOWN {
                write!(f, "\n    and {} more", rows.len() - SHOWN)?;
            }
            wrap(f, defect.remedy())?;
        }
        Ok(())
    }
}

/// Writes a paragraph, wrapped to the width of a terminal.
fn wrap(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut column = usize::MAX;
    for word in text.split_whitespace() {
        if column.saturating_add(word.len()) > 96 {
            f.write_str("\n    > ")?;
            column = 0;
        } else {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += word.len();
    }
    Ok(())
}
