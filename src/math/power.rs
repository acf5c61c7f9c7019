//! Logarithm, exponential and integer powers in pairs of f64, with relative errors of about 2^-100. Rotary embedding
//! uses them for its frequencies, AdamW for its bias corrections, and the sampler for its DRY penalties.
//!
//! Logarithm and exponential are computed by series. Each takes up to a microsecond. This is acceptable because they
//! are not computed for each element of a tensor.

/// Unevaluated sum of two f64. The second is at most half a unit in the last place of the first.
#[derive(Clone, Copy, PartialEq)]
pub struct Pair(pub f64, pub f64);

/// ln 2 as the sum of three f64. The first two have 40 significant bits, so their products with an exponent are exact.
const LN_2: [f64; 3] = [
    f64::from_bits(0x3fe6_2e42_fefa_2000),
    f64::from_bits(0x3d69_ef35_793c_6000),
    f64::from_bits(0x3ae6_7300_7e5e_d5e8),
];

/// Computes ln x of a positive finite number.
pub fn log(x: f64) -> Pair {
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
        sum = sum.plus(power.over(f64::from(n).into()));
    }
    LN_2.iter().fold(sum.plus(sum), |sum, part| sum.plus(Pair(k * part, 0.0)))
}

/// Computes ln x of a positive finite sum of two f64.
pub fn log_of(x: Pair) -> Pair {
    // ln(a + b) = ln a + r - r^2/2 + .. with r = b / a below 2^-53.
    let r = Pair::from(x.1).over(x.0.into());
    log(x.0).plus(r.minus(r.times(r).over(2.0.into())))
}

/// Computes e^x for x from -2800 to 800. Results out of f64's range become 0 or infinite.
pub fn exp(x: Pair) -> Pair {
    let n = (x.0 * std::f64::consts::LOG2_E).round();
    let r = LN_2.iter().fold(x, |r, part| r.plus(Pair(-n * part, 0.0)));
    // The terms from r^13 / 13! on are below 2^-52 of the sum, so f64 is enough for them.
    let tail = (13..=26).rev().fold(0.0, |tail, i| (1.0 + tail) * r.0 / f64::from(i));
    let (mut term, mut sum) = (Pair(1.0, 0.0), Pair(1.0, 0.0));
    for i in 1..=12 {
        term = term.times(r).over(f64::from(i).into());
        sum = sum.plus(term);
    }
    let sum = sum.plus(Pair(term.0 * tail, 0.0));
    // Scale in two steps, because 2^n alone may be out of range.
    let half = (n / 2.0).floor();
    let [half, rest] = [half, n - half].map(power_of_two);
    Pair(sum.0 * half * rest, sum.1 * half * rest)
}

/// Returns 2^n for n up to 1023, or 0 if the power is below the normal range.
fn power_of_two(n: f64) -> f64 {
    f64::from_bits(((n as i64 + 1023).max(0) as u64) << 52)
}

fn two_sum(a: f64, b: f64) -> Pair {
    let sum = a + b;
    let part = sum - a;
    Pair(sum, (a - (sum - part)) + (b - part))
}

impl From<f64> for Pair {
    fn from(value: f64) -> Self {
        Pair(value, 0.0)
    }
}

impl std::ops::Neg for Pair {
    type Output = Pair;

    fn neg(self) -> Pair {
        Pair(-self.0, -self.1)
    }
}

impl Pair {
    pub fn plus(self, other: Pair) -> Pair {
        let (high, low) = (two_sum(self.0, other.0), two_sum(self.1, other.1));
        let sum = two_sum(high.0, high.1 + low.0);
        two_sum(sum.0, sum.1 + low.1)
    }

    pub fn minus(self, other: Pair) -> Pair {
        self.plus(-other)
    }

    pub fn times(self, other: Pair) -> Pair {
        let high = self.0 * other.0;
        let error = self.0.mul_add(other.0, -high);
        two_sum(high, error + self.0.mul_add(other.1, self.1 * other.0))
    }

    /// Returns the square root of a positive number.
    pub fn sqrt(self) -> Pair {
        let high = self.0.sqrt();
        two_sum(high, ((-high).mul_add(high, self.0) + self.1) / (2.0 * high))
    }

    /// Raises a number of 1 or more to an integer power by squaring. The relative error is at most 2^-100 times the
    /// exponent. If the power is out of f64's range, the first part is infinite or NaN.
    pub fn to_the(self, mut exponent: u64) -> Pair {
        let (mut square, mut power) = (self, Pair(1.0, 0.0));
        loop {
            if exponent % 2 == 1 {
                power = power.times(square);
            }
            exponent /= 2;
            if exponent == 0 {
                return power;
            }
            square = square.times(square);
        }
    }

    pub fn over(self, divisor: Pair) -> Pair {
        let high = self.0 / divisor.0;
        two_sum(high, ((-high).mul_add(divisor.0, self.0) + self.1 - high * divisor.1) / divisor.0)
    }
}
