//! Specifies the inputs of an op that the search tries, called candidates. Generates and mutates them at random.

use crate::case::{Case, Runs, flip, round, step};
use evenkeel::DType;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};

/// Sizes, options and operands of an op in a storage type.
pub struct Spec {
    /// Sizes, each with its smallest and largest value.
    pub sizes: Vec<Size>,
    /// Possible options.
    pub options: Vec<Choice>,
    /// Operands.
    pub arrays: Vec<Array>,
}

/// Size of a candidate, such as a number of columns or keys.
pub struct Size {
    /// Smallest value.
    pub min: usize,
    /// Largest value.
    pub max: usize,
    /// Number that the size must be a multiple of.
    pub of: usize,
    /// Values at which kernels change their algorithm.
    pub edges: &'static [usize],
}

/// Possible values of an option.
#[derive(Clone, Copy)]
pub enum Choice {
    /// One of the listed values; NaN leaves the option unset.
    One(&'static [f64]),
    /// Factor: one of the listed values, an inverse square root, a power of two, a multiple of 1/64, or a number
    /// between the two limits.
    Factor(f64, f64, &'static [f64]),
    /// Any integer up to this limit.
    Integer(u32),
}

/// Operand of an op.
pub struct Array {
    /// Length as a function of the sizes.
    pub len: fn(&[usize]) -> usize,
    /// Storage type.
    pub dtype: DType,
    /// Kind of numbers in the operand.
    pub values: Values,
}

/// Kind of numbers in an operand.
#[derive(Clone, Copy, PartialEq)]
pub enum Values {
    /// Scores for softmax and related ops, whose results depend on the differences between scores.
    Scores,
    /// Biases, which are added to scaled scores. The first number is the index of the operand with the scores. The
    /// second is the index of the option with their scale.
    Bias(usize, usize),
    /// 0 or 1.
    Flags,
    /// Elements of vectors, gradients or weights of any magnitude.
    Numbers,
    /// Numbers between 0 and 1.
    Shares,
    /// Any finite value of the type, such as the argument of a function.
    Any,
}

impl Spec {
    /// Generates a random candidate.
    pub fn random(&self, op: &str, dtype: DType, rng: &mut SmallRng) -> Case {
        let sizes: Vec<usize> = self.sizes.iter().map(|size| size.random(rng)).collect();
        let options = self.options.iter().map(|choice| choice.random(rng)).collect();
        let mut case = Case { op: op.to_string(), dtype, sizes, options, arrays: Vec::new() };
        for array in &self.arrays {
            let mut runs = array.random(&case, rng);
            runs.0.retain(|(_, count)| *count > 0);
            case.arrays.push(runs);
        }
        case
    }

    /// Returns a mutated candidate.
    pub fn mutated(&self, case: &Case, rng: &mut SmallRng) -> Case {
        let mut case = case.clone();
        let changes = if rng.random_bool(0.7) { 1 } else { rng.random_range(2..6) };
        for _ in 0..changes {
            let kind = rng.random_range(0..100);
            if kind < 8 && !self.sizes.is_empty() {
                let i = rng.random_range(0..self.sizes.len());
                case.sizes[i] = self.sizes[i].mutated(case.sizes[i], rng);
                for (array, runs) in self.arrays.iter().zip(&mut case.arrays) {
                    runs.resize((array.len)(&case.sizes));
                }
            } else if kind < 20 && !self.options.is_empty() {
                let i = rng.random_range(0..self.options.len());
                case.options[i] = self.options[i].mutated(case.options[i], rng);
            } else if !self.arrays.is_empty() {
                let i = rng.random_range(0..self.arrays.len());
                self.arrays[i].mutate(&mut case, i, rng);
            }
        }
        case
    }

    /// Returns `case` with some options and operands of `other`, resized to the sizes of `case`.
    pub fn crossed(&self, case: &Case, other: &Case, rng: &mut SmallRng) -> Case {
        let mut crossed = case.clone();
        if rng.random_bool(0.3) {
            crossed.options = other.options.clone();
        }
        for (array, (to, from)) in self.arrays.iter().zip(crossed.arrays.iter_mut().zip(&other.arrays)) {
            if rng.random_bool(0.4) {
                *to = from.clone();
                to.resize((array.len)(&crossed.sizes));
            }
        }
        crossed
    }

    /// Returns whether a parsed case has valid sizes, options and operands.
    pub fn fits(&self, case: &Case) -> bool {
        let within = |(size, &value): (&Size, &usize)| (size.min..=size.max).contains(&value) && value % size.of == 0;
        case.sizes.len() == self.sizes.len()
            && case.options.len() == self.options.len()
            && case.arrays.len() == self.arrays.len()
            && self.sizes.iter().zip(&case.sizes).all(within)
            && self.arrays.iter().zip(&case.arrays).all(|(array, runs)| (array.len)(&case.sizes) == runs.len())
    }
}

impl Size {
    fn fit(&self, value: usize) -> usize {
        (value.clamp(self.min, self.max) / self.of * self.of).max(self.min)
    }

    fn random(&self, rng: &mut SmallRng) -> usize {
        /// Upper limit of most generated sizes, because small candidates are evaluated faster.
        const SMALL: usize = 600;
        let edges: Vec<usize> = match rng.random_range(0..100) {
            0..6 => self.edges.to_vec(),
            6..50 => self.edges.iter().copied().filter(|edge| *edge <= SMALL).collect(),
            _ => Vec::new(),
        };
        let random = |rng: &mut SmallRng| {
            let (low, high) = ((self.min.max(1) as f64).ln(), (self.max.min(SMALL) as f64).ln().max(0.0));
            (low + (high - low).max(0.0) * rng.random::<f64>()).exp() as usize
        };
        self.fit(if edges.is_empty() { random(rng) } else { edges[rng.random_range(0..edges.len())] })
    }

    fn mutated(&self, value: usize, rng: &mut SmallRng) -> usize {
        self.fit(match rng.random_range(0..6) {
            0 => value + self.of,
            1 => value.saturating_sub(self.of),
            2 => value * 2,
            3 => value / 2,
            _ => self.random(rng),
        })
    }
}

impl Choice {
    fn random(&self, rng: &mut SmallRng) -> f64 {
        match *self {
            Choice::One(values) => values[rng.random_range(0..values.len())],
            Choice::Integer(most) => f64::from(rng.random_range(0..=most)),
            Choice::Factor(low, high, values) => match rng.random_range(0..8) {
                0..3 => values[rng.random_range(0..values.len())],
                3 => 1.0 / f64::from(rng.random_range(1..512u32)).sqrt(),
                4 => f64::from(rng.random_range(-8..3i32)).exp2(),
                5 => f64::from(rng.random_range(1..128u32)) / 64.0,
                _ => (low.ln() + (high.ln() - low.ln()) * rng.random::<f64>()).exp(),
            },
        }
    }

    fn mutated(&self, value: f64, rng: &mut SmallRng) -> f64 {
        if let Choice::Factor(low, high, _) = *self
            && value.is_finite()
            && value != 0.0
            && rng.random_bool(0.7)
        {
            let changed = match rng.random_range(0..5) {
                0 => step(DType::F64, value, rng.random_range(-2..=2)),
                1 => step(DType::F64, value, 1 << rng.random_range(0..40u32)),
                2 => value * if rng.random_bool(0.5) { 2.0 } else { 0.5 },
                3 => value * (1.0 + (rng.random::<f64>() - 0.5) * 0.1),
                _ => f64::from(value as f32),
            };
            return if changed == 0.0 { changed } else { changed.signum() * changed.abs().clamp(low, high) };
        }
        self.random(rng)
    }
}

/// Returns a negative multiple of ln 2 / 8 or ln 2 / 16, at which the exponential switches to another entry of its
/// table. The range includes arguments whose exponential underflows f16.
fn table_point(rng: &mut SmallRng) -> f64 {
    let steps = f64::from(rng.random_range(0..1000u32)) / if rng.random_bool(0.5) { 1.0 } else { 2.0 };
    -steps * std::f64::consts::LN_2 / 8.0
}

/// Returns a random number, of any magnitude that the type can hold.
fn any_number(dtype: DType, rng: &mut SmallRng) -> f64 {
    let limits = dtype.limits();
    let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let magnitude = match rng.random_range(0..12) {
        0 => limits.max,
        1 => limits.min_normal,
        2 => limits.min_subnormal,
        3 => limits.max * limits.epsilon,
        4 => 1.0 + limits.epsilon * f64::from(rng.random_range(0..4u32)),
        5 => f64::from(rng.random_range(0..10u32)),
        6 => f64::from(rng.random_range(-20..20i32)).exp2(),
        7 => limits.max.sqrt() * rng.random::<f64>(),
        _ => rng.random::<f64>() * f64::from(rng.random_range(-10..10i32)).exp2(),
    };
    round(dtype, sign * magnitude)
}

impl Array {
    fn number(&self, rng: &mut SmallRng) -> f64 {
        match self.values {
            Values::Flags => f64::from(u8::from(rng.random_bool(0.8))),
            Values::Shares => [0.0, 1.0, 0.5, rng.random(), rng.random::<f64>().powi(20)][rng.random_range(0..5)],
            Values::Scores | Values::Bias(..) => match rng.random_range(0..8) {
                6 => (rng.random::<f64>() - 0.5) * 10f64.powf(rng.random::<f64>() * 6.0),
                7 => 10f64.powf(-rng.random::<f64>() * 8.0),
                0 => table_point(rng),
                1 => f64::from(rng.random_range(-4..4i32)),
                2 => -rng.random::<f64>() * 110.0,
                3 => rng.random::<f64>() * 1e-3,
                4 => rng.random::<f64>() * 1000.0 - 500.0,
                _ => (rng.random::<f64>() - 0.5) * 16.0,
            },
            Values::Any => match rng.random_range(0..4) {
                0 => any_number(self.dtype, rng),
                1 => (rng.random::<f64>() - 0.5) * 2000.0,
                2 => (rng.random::<f64>() - 0.5) * 8.0,
                _ => flip(self.dtype, any_number(self.dtype, rng), rng.next_u32()),
            },
            Values::Numbers => match rng.random_range(0..20) {
                0 => any_number(self.dtype, rng),
                1..5 => f64::from(rng.random_range(-3..4i32)),
                5..8 => 1.0,
                _ => (rng.random::<f64>() + rng.random::<f64>() - 1.0) * 3.0,
            },
        }
    }

    fn random(&self, case: &Case, rng: &mut SmallRng) -> Runs {
        let len = (self.len)(&case.sizes);
        let to = |value: f64| round(self.dtype, value);
        if len == 0 {
            return Runs::default();
        }
        if let Values::Bias(scores, scale) = self.values
            && rng.random_bool(0.6)
            && case.arrays[scores].len() == len
        {
            // The bias cancels the scaled scores in some or all elements.
            let factor = case.options[scale];
            let some = rng.random::<f64>();
            let cancelled = |&(x, count): &(f64, usize), rng: &mut SmallRng| {
                let rest = if rng.random_bool(0.5) { 0.0 } else { rng.random::<f64>() - 0.5 };
                let bias = if rng.random_bool(some) { -x * factor + rest } else { 0.0 };
                (to(bias), count)
            };
            return Runs(case.arrays[scores].0.iter().map(|run| cancelled(run, rng)).collect());
        }
        let (a, b) = (self.number(rng), self.number(rng));
        let long = len > 4096;
        let kind = if long { rng.random_range(0..4) } else { rng.random_range(0..10) };
        match kind {
            // One or a few elements differ from the rest.
            0 => Runs(vec![(to(a), 1), (to(b), len - 1)]),
            1 => Runs(vec![(to(a), len - 1), (step(self.dtype, to(a), rng.random_range(-2..=2)), 1)]),
            2 => {
                let mut runs = vec![(to(a), 1), (to(b), 1), (to(self.number(rng)), 1)];
                runs.truncate(len);
                let mut runs = Runs(runs);
                runs.resize(len);
                runs
            }
            3 => Runs(vec![(to(a), len)]),
            // Up to four distinct values in random order.
            4 => {
                let values: Vec<f64> = (0..rng.random_range(2..5)).map(|_| to(self.number(rng))).collect();
                Runs::of((0..len).map(|_| values[rng.random_range(0..values.len())]))
            }
            // Values within a few ULP of a constant.
            5 => Runs::of((0..len).map(|_| step(self.dtype, to(a), rng.random_range(-3..=3)))),
            // Random values around a constant, in an interval of random width.
            6 => {
                let spread = f64::from(rng.random_range(-30..8i32)).exp2();
                Runs::of((0..len).map(|_| to(a + spread * (rng.random::<f64>() - 0.5))))
            }
            // A geometric sequence.
            7 => {
                let ratio = rng.random::<f64>();
                Runs::of((0..len).map(|i| to(a * ratio.powi(i as i32))))
            }
            _ => Runs::of((0..len).map(|_| to(self.number(rng)))),
        }
    }

    fn mutate(&self, case: &mut Case, index: usize, rng: &mut SmallRng) {
        let beside = match self.values {
            Values::Bias(scores, scale) => Some((case.arrays[scores].clone(), case.options[scale])),
            _ => None,
        };
        let dtype = self.dtype;
        let runs = &mut case.arrays[index].0;
        if runs.is_empty() {
            return;
        }
        let (i, j) = (rng.random_range(0..runs.len()), rng.random_range(0..runs.len()));
        if self.values == Values::Flags {
            runs[i].0 = 1.0 - runs[i].0;
            return;
        }
        let max = runs.iter().map(|run| run.0).fold(f64::MIN, f64::max);
        let to = |value: f64| round(dtype, value);
        match rng.random_range(0..20) {
            0..5 => runs[i].0 = step(dtype, runs[i].0, [-1, 1, -2, 2, 5, -7][rng.random_range(0..6)]),
            5 => runs[i].0 = flip(dtype, runs[i].0, rng.next_u32()),
            6 => runs[i].0 = flip(dtype, runs[i].0, rng.random_range(0..dtype.limits().digits)),
            7 => runs[i].0 = runs[j].0,
            8 => {
                let value = runs[i].0;
                runs[i].0 = runs[j].0;
                runs[j].0 = value;
            }
            9 => runs[i].0 = to(self.number(rng)),
            10 => runs[i].0 = to(max + table_point(rng)),
            11 => {
                let factor = match rng.random_range(0..3) {
                    0 => 2.0,
                    1 => 0.5,
                    _ => 1.0 + (rng.random::<f64>() - 0.5) * f64::from(rng.random_range(-20..1i32)).exp2(),
                };
                runs.iter_mut().for_each(|run| run.0 = to(run.0 * factor));
            }
            12 => {
                let shift = self.number(rng) * f64::from(rng.random_range(-24..1i32)).exp2();
                runs.iter_mut().for_each(|run| run.0 = to(run.0 + shift));
            }
            13 => runs[i].0 = -runs[i].0,
            // All elements between two indices get the value of the first index.
            14 => {
                let value = runs[i].0;
                runs[i.min(j)..=i.max(j)].iter_mut().for_each(|run| run.0 = value);
            }
            15 => runs[i].0 = to(runs[i].0 * (1.0 + (rng.random::<f64>() - 0.5) * 0.01)),
            // All elements move by the same number of ULP.
            16 => {
                let steps = rng.random_range(-1..=1i64);
                runs.iter_mut().for_each(|run| run.0 = step(dtype, run.0, steps));
            }
            // One run becomes longer at the expense of another one.
            17 if runs.len() > 1 && i != j => {
                let taken = rng.random_range(0..runs[j].1);
                runs[j].1 -= taken;
                runs[i].1 += taken;
            }
            // A run is split in two.
            18 if runs[i].1 > 1 && runs.len() < 4096 => {
                let taken = if rng.random_bool(0.5) { 1 } else { rng.random_range(1..runs[i].1) };
                runs[i].1 -= taken;
                let value = step(dtype, runs[i].0, rng.random_range(-2..=2));
                runs.insert(i, (value, taken));
            }
            _ => {
                if let Some((scores, factor)) = beside
                    && let Some(&(x, _)) = scores.0.get(i)
                {
                    runs[i].0 = to(-x * factor + if rng.random_bool(0.5) { 0.0 } else { rng.random::<f64>() - 0.5 });
                }
            }
        }
        if self.values == Values::Shares {
            runs.iter_mut().for_each(|run| run.0 = run.0.clamp(0.0, 1.0));
        }
    }
}
