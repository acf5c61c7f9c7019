//! Powers of one number, rounded to nearest: the frequencies of rotary embedding.
//!
//! Far positions multiply an error in the last place of a frequency by themselves, so frequencies are to be the same
//! whoever computes them: the exact power, rounded once. Logarithm and exponential are their series in pairs of f64,
//! to 2^-100 or so, which leaves one frequency in 2^40 to be rounded the wrong way. Tables are made once; this takes
//! microseconds a frequency.

/// An unevaluated sum, the second part below half a unit in the last place of the first.
#[derive(Clone, Copy)]
struct Pair(f64, f64);

/// ln 2 in three parts, the first two of 40 bits, so that their products with an exponent are exact.
const LN_2: [f64; 3] = [
    f64::from_bits(0x3fe6_2e42_fefa_2000),
    f64::from_bits(0x3d69_ef35_793c_6000),
    f64::from_bits(0x3ae6_7300_7e5e_d5e8),
];

/// `base^(-numerator / denominator)` for a base that is finite and above zero and a quotient from 0 to 1; at most the
/// largest finite number.
pub fn inverse_power(base: f64, numerator: usize, denominator: usize) -> f64 {
    let log = log(base);
    let exponent = log.times(Pair(-(numerator as f64), 0.0)).over(denominator as f64);
    exp(exponent).min(f64::MAX)
}

fn log(x: f64) -> Pair {
    // x = 2^k m with m from sqrt(1/2) to sqrt(2), and ln m = 2 (s + s^3/3 + ..) with s = (m - 1) / (m + 1).
    let (x, bias) = if x < f64::MIN_POSITIVE { (x * (1u64 << 54) as f64, 54) } else { (x, 0) };
    let bits = x.to_bits();
    let m = f64::from_bits(bits & ((1 << 52) - 1) | 1.0f64.to_bits());
    let (m, carry) = if m > std::f64::consts::SQRT_2 { (0.5 * m, 1) } else { (m, 0) };
    let k = f64::from((bits >> 52) as i32 - 1023 - bias + carry);
    let (f, d) = (m - 1.0, two_sum(m, 1.0));
    let high = f / d.0;
    let s = two_sum(high, ((-high).mul_add(d.0, f) - high * d.1) / d.0);
    let square = s.times(s);
    let (mut power, mut sum) = (s, s);
    for n in (3..=43).step_by(2) {
        power = power.times(square);
        sum = sum.plus(power.over(f64::from(n)));
    }
    LN_2.iter().fold(sum.plus(sum), |sum, part| sum.plus(Pair(k * part, 0.0)))
}

fn exp(x: Pair) -> f64 {
    let n = (x.0 * std::f64::consts::LOG2_E).round();
    let r = LN_2.iter().fold(x, |r, part| r.plus(Pair(-n * part, 0.0)));
    let (mut term, mut sum) = (Pair(1.0, 0.0), Pair(1.0, 0.0));
    for i in 1..=26 {
        term = term.times(r).over(f64::from(i));
        sum = sum.plus(term);
    }
    // In two steps: the power of two alone may be out of range.
    let half = (n / 2.0).floor();
    sum.0 * power_of_two(half) * power_of_two(n - half)
}

fn power_of_two(n: f64) -> f64 {
    f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

fn two_sum(a: f64, b: f64) -> Pair {
    let sum = a + b;
    let part = sum - a;
    Pair(sum, (a - (sum - part)) + (b - part))
}

impl Pair {
    fn plus(self, other: Pair) -> Pair {
        let (high, low) = (two_sum(self.0, other.0), two_sum(self.1, other.1));
        let sum = two_sum(high.0, high.1 + low.0);
        two_sum(sum.0, sum.1 + low.1)
    }

    fn times(self, other: Pair) -> Pair {
        let high = self.0 * other.0;
        let error = self.0.mul_add(other.0, -high);
        two_sum(high, error + self.0.mul_add(other.1, self.1 * other.0))
    }

    fn over(self, n: f64) -> Pair {
        let high = self.0 / n;
        two_sum(high, ((-high).mul_add(n, self.0) + self.1) / n)
    }
}

#[cfg(test)]
mod tests {
    use super::{inverse_power, power_of_two};

    #[test]
    fn powers_that_f64_holds_are_exact() {
        for (base, numerator, denominator, power) in [
            (16.0, 1, 4, 0.5),
            (1e4, 0, 32, 1.0),
            (0.25, 1, 2, 2.0),
            (1.0, 5, 7, 1.0),
            (power_of_two(1000.0), 1, 2, power_of_two(-500.0)),
        ] {
            assert_eq!(inverse_power(base, numerator, denominator), power);
        }
        assert_eq!(inverse_power(5e-324, 1023, 1024), f64::MAX);
    }
}
