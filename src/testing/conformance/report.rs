//! What a suite found, as an engine's author wants to read it.

use crate::element::DType;
use std::fmt;

/// What is wrong with an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// A sum is kept in a type that is too narrow for it.
    NarrowSum,
    /// Steps before the last are rounded to a 16-bit storage type.
    NarrowSteps,
    /// Finite values far from zero overflow.
    ExtremeValues,
    /// A row with nothing to attend to gives what is neither zeros nor uniform.
    MaskedRow,
    /// A masked position gets a share, or spoils what the others get.
    MaskedPosition,
    /// A NaN that a row has is not in its result.
    HidesNan,
    /// A NaN shows in the results of other rows.
    NanSpreads,
    /// A row's result depends on what other rows there are.
    DependsOnBatch,
    /// The variance is mean x^2 - mean^2.
    OnePassVariance,
    /// The mean is rounded before it is subtracted.
    RoundedMean,
    /// Squares of finite values overflow.
    SquaresOverflow,
    /// Squares of values that are not zero are.
    SquaresVanish,
    /// A target that is no class is not refused.
    TargetOutOfRange,
    /// Top-p counts the mass that top-k has removed.
    UnrenormalisedCut,
    /// A filter keeps tokens that it must remove, or removes some that it must keep.
    WrongSupport,
    /// Tokens are not drawn as often as they are probable.
    WrongDistribution,
    /// A masked token is drawn.
    DrawsMasked,
    /// A token is drawn from logits with a NaN.
    AcceptsNan,
    /// A token is drawn where every token is masked.
    AcceptsNothing,
    /// The same seed gives another token.
    NotRepeatable,
    /// The result is off by more than the formula in f32, or f64, has to be.
    Inaccurate,
    /// Valid input is refused.
    Refuses,
    /// As many results as elements are needed, and there are others.
    WrongLength,
    /// It panics.
    Panics,
}

impl Defect {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Where it comes from, and what to do instead.
    pub fn remedy(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Defect::NarrowSum => (
                "narrow sum",
                "A sum stands still once its terms are below half an ULP of it: at 256 ones in bf16, at 2,048 in f16. \
                 Add in f32 or wider, and round the result once.",
            ),
            Defect::NarrowSteps => (
                "narrow steps",
                "Each step that is rounded to the storage type costs half an ULP, and one under an exponential much \
                 more. Widen on load, round once at the store.",
            ),
            Defect::ExtremeValues => (
                "extreme values overflow",
                "exp of a score of 89 is beyond f32. Subtract the row's largest score first; finite fills such as \
                 -1e30 and the type's lowest value are scores like others.",
            ),
            Defect::MaskedRow => (
                "wholly masked row",
                "-inf minus a largest score of -inf is NaN. Where nothing is left to attend to, give zeros (of \
                 log-softmax -inf), uniform shares, or a typed error.",
            ),
            Defect::MaskedPosition => (
                "masked position",
                "A score of -inf has a share of exactly 0, and those of the others are as if it were not there.",
            ),
            Defect::HidesNan => (
                "hidden NaN",
                "A comparison with NaN is false, so a maximum by `>` walks past it. Let it show in its own row: a \
                 model that broke is then found where it broke.",
            ),
            Defect::NanSpreads => ("NaN spreads", "One broken sequence must not spoil the others of its batch."),
            Defect::DependsOnBatch => (
                "depends on the batch",
                "Sums are split by the size of the batch, so a request's tokens depend on who else is served. Let \
                 the order of a sum depend on the row's length alone.",
            ),
            Defect::OnePassVariance => (
                "one-pass variance",
                "mean x^2 - mean^2 cancels all digits of a small spread about a large mean, and may be negative. \
                 Subtract the mean first, then square.",
            ),
            Defect::RoundedMean => (
                "rounded mean",
                "The mean is off by as much as the values differ. Keep sum and mean in f64, or subtract the first \
                 value from all before.",
            ),
            Defect::SquaresOverflow => (
                "squares overflow",
                "The square of 1e20 is beyond f32, and that of 300 beyond f16. Square in f64, or divide by the row's \
                 largest value first.",
            ),
            Defect::SquaresVanish => (
                "squares vanish",
                "The square of 1e-25 is 0 in f32. Square in f64, or divide by the row's largest value first.",
            ),
            Defect::TargetOutOfRange => (
                "target out of range",
                "A target that is not below the number of classes has no loss; an error names it.",
            ),
            Defect::UnrenormalisedCut => (
                "cut that is not renormalised",
                "p is a share of what top-k left. Divide by the mass of those k before tokens are counted up to p, or \
                 small k and p keep more than was asked for.",
            ),
            Defect::WrongSupport => (
                "wrong tokens kept",
                "Top-k keeps the k largest, top-p the shortest prefix of at least p, min-p what has at least that \
                 part of the largest probability, in this order.",
            ),
            Defect::WrongDistribution => {
                ("wrong distribution", "Shares are e^(logit / temperature) over the sum of those that are kept.")
            }
            Defect::DrawsMasked => ("masked token drawn", "A logit of -inf is a token that must not be drawn."),
            Defect::AcceptsNan => (
                "token from NaN",
                "A model that gives NaN is broken, whatever token comes of it. Refuse the row and say where it is.",
            ),
            Defect::AcceptsNothing => {
                ("token from nothing", "Where all logits are -inf no token may be drawn. Refuse the row.")
            }
            Defect::NotRepeatable => {
                ("not repeatable", "The token must be a function of logits, settings and seed, and of nothing else.")
            }
            Defect::Inaccurate => (
                "inaccurate",
                "On a row without traps the result has fewer correct digits than plain arithmetic gives.",
            ),
            Defect::Refuses => ("refuses", "The input is valid, and has a finite result."),
            Defect::WrongLength => ("wrong length", "One result for each element."),
            Defect::Panics => ("panic", "A server must survive what a caller hands over: return an error."),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A defect, and a row that shows it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong.
    pub defect: Defect,
    /// The row.
    pub row: String,
    /// What came of it, and what should have.
    pub what: String,
    /// How far the worst result is off, in ULP; infinite where it is no number, or none was needed.
    pub ulps: f64,
}

/// What a suite found in one function for one storage type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "a report that is not read finds nothing"]
pub struct Report {
    /// The function.
    pub op: &'static str,
    /// The storage type.
    pub dtype: DType,
    /// How many questions were asked.
    pub checks: usize,
    /// What was found, in the order of the questions.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether a defect was found.
    pub fn has(&self, defect: Defect) -> bool {
        self.findings.iter().any(|finding| finding.defect == defect)
    }

    /// The defects that were found, each once.
    pub fn defects(&self) -> Vec<Defect> {
        let mut defects: Vec<Defect> = Vec::new();
        for finding in &self.findings {
            if !defects.contains(&finding.defect) {
                defects.push(finding.defect);
            }
        }
        defects
    }

    /// # Panics
    /// With the report, if anything was found.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

/// How many rows that show a defect are told of.
const SHOWN: usize = 4;

/// Each defect once, with the first rows that show it and a remedy.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, dtype, checks) = (self.op, self.dtype, self.checks);
        let defects = self.defects();
        match defects.len() {
            0 => return write!(f, "{op} in {dtype}: nothing found in {checks} checks"),
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

/// A paragraph of lines that fit a terminal.
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
