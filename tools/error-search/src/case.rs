//! Search candidate: storage type, sizes, options and operands of an op. Its text form reproduces a finding.

use evenkeel::{DType, Element};
use half::{bf16, f16};

/// Evaluates an expression with the element type of a [`DType`].
#[macro_export]
macro_rules! with_type {
    ($dtype:expr, $E:ident => $e:expr) => {
        match $dtype {
            evenkeel::DType::F64 => {
                type $E = f64;
                $e
            }
            evenkeel::DType::F32 => {
                type $E = f32;
                $e
            }
            evenkeel::DType::F16 => {
                type $E = half::f16;
                $e
            }
            evenkeel::DType::BF16 => {
                type $E = half::bf16;
                $e
            }
            other => unimplemented!("storage type {other}"),
        }
    };
}

/// Run-length encoded numbers: pairs of a value and a count. In this form, a row of millions of columns takes little
/// memory, even after mutations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs(pub Vec<(f64, usize)>);

impl Runs {
    /// Encodes each number as a run of length 1.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        Runs(values.into_iter().map(|value| (value, 1)).collect())
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Changes the number of elements: truncates at the end, or extends by repetition.
    pub fn resize(&mut self, len: usize) {
        let mut missing = len as isize - self.len() as isize;
        while missing < 0 {
            let Some((_, count)) = self.0.last_mut() else { return };
            let taken = (*count).min(missing.unsigned_abs());
            *count -= taken;
            missing += taken as isize;
            if *count == 0 {
                self.0.pop();
            }
        }
        let pattern = if self.0.is_empty() { vec![(0.0, 1)] } else { self.0.clone() };
        let is_short = pattern.len() < 8;
        for i in 0.. {
            if missing == 0 {
                return;
            }
            // With fewer than 8 runs, the last run is extended. Otherwise the whole pattern is repeated.
            let (value, count) = if is_short { pattern[pattern.len() - 1] } else { pattern[i % pattern.len()] };
            let count = if is_short { missing as usize } else { count.min(missing as usize) };
            self.0.push((value, count));
            missing -= count as isize;
        }
    }

    pub fn expand<E: Element>(&self) -> Vec<E> {
        self.0.iter().flat_map(|&(value, count)| std::iter::repeat_n(E::from_wide(value), count)).collect()
    }
}

/// Search candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Name of the op.
    pub op: String,
    /// Storage type of the operands.
    pub dtype: DType,
    /// Sizes, in the order of the op's specification.
    pub sizes: Vec<usize>,
    /// Options, in the order of the op's specification. An option that is not set is NaN.
    pub options: Vec<f64>,
    /// Operands, in the order of the op's specification, rounded to their types.
    pub arrays: Vec<Runs>,
}

impl Case {
    /// Returns the text form, a single word. A number is written as the bits of an f64 in base 16. If it is repeated,
    /// `*` and the length of the run follow.
    pub fn text(&self) -> String {
        let words = |values: &[(f64, usize)]| {
            let word = |(value, count): &(f64, usize)| match count {
                1 => format!("{:x}", value.to_bits()),
                count => format!("{:x}*{count}", value.to_bits()),
            };
            values.iter().map(word).collect::<Vec<_>>().join(",")
        };
        let sizes: Vec<String> = self.sizes.iter().map(usize::to_string).collect();
        let options: Vec<(f64, usize)> = self.options.iter().map(|&option| (option, 1)).collect();
        let mut text = format!("{}:{}:{}:{}", self.op, self.dtype, sizes.join(","), words(&options));
        for array in &self.arrays {
            text += ":";
            text += &words(&array.0);
        }
        text
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let run = |word: &str| {
            let (bits, count) = word.split_once('*').unwrap_or((word, "1"));
            Some((f64::from_bits(u64::from_str_radix(bits, 16).ok()?), count.parse().ok()?))
        };
        let runs = |part: &str| -> Option<Vec<(f64, usize)>> {
            if part.is_empty() { Some(Vec::new()) } else { part.split(',').map(run).collect() }
        };
        let mut parts = text.trim().split(':');
        let op = parts.next()?.to_string();
        let name = parts.next()?;
        let dtype = DType::ALL.iter().copied().find(|dtype| dtype.to_string() == name)?;
        let sizes = parts.next()?;
        let sizes: Option<Vec<usize>> =
            if sizes.is_empty() { Some(Vec::new()) } else { sizes.split(',').map(|size| size.parse().ok()).collect() };
        let options = runs(parts.next()?)?.into_iter().map(|(option, _)| option).collect();
        let arrays: Option<Vec<Runs>> = parts.map(|part| runs(part).map(Runs)).collect();
        Some(Case { op, dtype, sizes: sizes?, options, arrays: arrays? })
    }

    /// Returns the elements of an operand.
    pub fn array<E: Element>(&self, index: usize) -> Vec<E> {
        self.arrays[index].expand()
    }

    /// Returns an option, if it is set.
    pub fn option(&self, index: usize) -> Option<f64> {
        Some(self.options[index]).filter(|option| !option.is_nan())
    }
}

/// Rounds to the nearest finite value of a storage type.
pub fn round(dtype: DType, value: f64) -> f64 {
    let max = dtype.limits().max;
    let rounded = with_type!(dtype, E => E::from_wide(value).widen());
    if rounded.is_nan() { 0.0 } else { rounded.clamp(-max, max) }
}

/// Moves a value by `steps` representable values, at most to the largest finite value.
pub fn step(dtype: DType, value: f64, steps: i64) -> f64 {
    use evenkeel::testing::values::Bits;
    let next = with_type!(dtype, E => E::at_place(E::from_wide(value).place().saturating_add(steps)).widen());
    round(dtype, next)
}

/// Inverts one bit of a value. If the result is not finite, returns the value unchanged.
pub fn flip(dtype: DType, value: f64, bit: u32) -> f64 {
    let flipped = match dtype {
        DType::F64 => f64::from_bits(value.to_bits() ^ 1 << (bit % 64)),
        DType::F32 => f64::from(f32::from_bits((value as f32).to_bits() ^ 1 << (bit % 32))),
        DType::F16 => f16::from_bits(f16::from_f64(value).to_bits() ^ 1 << (bit % 16)).to_f64(),
        DType::BF16 => bf16::from_bits(bf16::from_f64(value).to_bits() ^ 1 << (bit % 16)).to_f64(),
        other => unimplemented!("storage type {other}"),
    };
    if flipped.is_finite() { flipped } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gives_the_case_again() {
        let arrays = vec![Runs(vec![(1.5, 1), (-0.0, 70_000), (f64::MIN_POSITIVE, 2)]), Runs::default()];
        let case =
            Case { op: "softmax".into(), dtype: DType::BF16, sizes: vec![3, 70_003], options: vec![0.1, 2.0], arrays };
        assert_eq!(Case::parse(&case.text()), Some(case.clone()));
        assert_eq!(Case::parse("softmax:F31:3"), None);
    }

    #[test]
    fn resized_runs_have_the_length() {
        let mut runs = Runs(vec![(1.0, 5), (2.0, 3)]);
        for len in [0, 1, 6, 8, 100] {
            let mut resized = runs.clone();
            resized.resize(len);
            assert_eq!(resized.expand::<f64>().len(), len);
        }
        runs.resize(0);
        runs.resize(4);
        assert_eq!(runs.len(), 4);
    }
}
