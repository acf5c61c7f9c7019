//! What a computation in f64 knows of a number.

/// Two f64 between which a number lies.
///
/// The middle between two neighbouring f32 is an f64, so rounding to f32, which is monotonic, is decided where both
/// ends round the same.
#[derive(Clone, Copy, Debug)]
pub struct Bracket {
    /// At most the number.
    pub low: f64,
    /// At least the number.
    pub high: f64,
}

impl Bracket {
    /// A number that `value` is off from by at most `relative`, from 2^-52 to 2^-20, times itself.
    ///
    /// The margin is twice that, so that how it is itself rounded does not matter. Among f64's subnormal numbers an
    /// error is not relative, but they and what is close to them round to the zero of their sign, as `value` does.
    pub fn around(value: f64, relative: f64) -> Self {
        if !value.is_normal() {
            return Bracket { low: value, high: value };
        }
        let margin = value.abs() * (2.0 * relative);
        Bracket { low: value - margin, high: value + margin }
    }

    /// A number above `value` by less than a unit in the last place of an f64.
    ///
    /// Between the two lies no middle between two f32, so the next f64 rounds as the number does.
    pub fn just_above(value: f64) -> Self {
        let next = value.next_up();
        Bracket { low: next, high: next }
    }

    /// The nearest f32, ties to even, where it is certain.
    pub fn rounded(self) -> Option<f32> {
        let (low, high) = (self.low as f32, self.high as f32);
        (low.to_bits() == high.to_bits()).then_some(low)
    }
}
