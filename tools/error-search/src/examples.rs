//! Initial candidates of every search: rows that once exceeded a bound.

use crate::case::{Case, Runs, round};
use evenkeel::DType;

/// Returns the examples of all ops.
pub fn examples() -> Vec<Case> {
    let mut all = Vec::new();
    let case = |op: &str, dtype, sizes: &[usize], options: &[f64], arrays: Vec<Runs>| Case {
        op: op.to_string(),
        dtype,
        sizes: sizes.to_vec(),
        options: options.to_vec(),
        arrays,
    };
    let none = f64::NAN;
    // A product and a bias cancel in the largest logit.
    for (x, bias) in [
        ([113_137.843_75, 0.001_864_799_298_346_042_6], -10_000.066_406_25),
        ([565.770_996_093_75, 7.812_368_494_342_081e-6], -50.007_560_729_980_47),
    ] {
        for op in ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"] {
            let dy = if op.ends_with("backward") { Runs::of([1.0, 0.5]) } else { Runs::default() };
            let arrays = vec![Runs::of(x), Runs::of([bias, 0.0]), Runs::of([1.0, 1.0]), dy];
            all.push(case(op, DType::F32, &[2], &[0.088_388_347_648_318_45, none, 1.0, 0.0], arrays));
        }
    }
    // All terms of these long rows are rounded in the same direction.
    let long = 1 << 21;
    for x in [
        vec![(0.0, 1), (-29.805_381_774_902_344, long - 1)],
        vec![(0.0, 1), (-1.0, 1), (-30.498_491_287_231_445, long - 2)],
        vec![(0.0, 1), (-29.805_381_774_902_344, (1 << 18) - 1)],
    ] {
        let x = Runs(x);
        let len = x.len();
        let ones = || Runs(vec![(1.0, len)]);
        for op in ["softmax", "log_softmax", "logsumexp"] {
            let arrays = vec![x.clone(), Runs(vec![(0.0, len)]), ones(), Runs::default()];
            all.push(case(op, DType::F32, &[len], &[1.0, none, 0.0, 0.0], arrays));
        }
        let arrays = vec![x.clone(), ones()];
        all.push(case("cross_entropy", DType::F32, &[len], &[0.0, 0.0, 0.0, none, 0.0, 1.0], arrays));
    }
    // One element differs from the others by one ULP.
    for len in [3072, 2969, 8978] {
        let x = Runs(vec![(1.0, len - 1), (1.0 + f64::from(f32::EPSILON), 1)]);
        let one = || Runs(vec![(1.0, len)]);
        let arrays = vec![x.clone(), one(), one(), one()];
        for op in ["layer_norm", "group_norm"] {
            all.push(case(op, DType::F32, &[len], &[1e-5, 0.0, 0.0, 0.0, 0.0], arrays.clone()));
        }
        let dy = Runs(vec![(1.0, 1), (0.5, len - 1)]);
        all.push(case("layer_norm_backward", DType::F32, &[1, len], &[1e-5, 0.0], vec![x, dy, one()]));
    }
    // In products of 128 features and sums of 256 values, every term except the first is less than half an ULP of the
    // first. Sums in the storage type would lose these terms.
    for (op, of_dy) in [("attention", 0), ("attention_backward", 1)] {
        for dtype in [DType::F64, DType::F32] {
            let small = dtype.limits().epsilon * 0.49;
            let q = Runs(vec![(1.0, 128)]);
            let key = |sign: f64| [(sign, 1), (round(dtype, sign * small), 127)];
            let k = Runs([key(1.0), key(-1.0)].concat());
            let options = [63.0 / 64.0, none, 0.0, 0.0, none];
            let beside = |keys: usize| [Runs(vec![(0.0, keys)]), Runs(vec![(1.0, keys)]), Runs(vec![(1.0, of_dy)])];
            let with = |arrays: Vec<Runs>, keys: usize| {
                let mut arrays: Vec<Runs> = arrays.into_iter().chain(beside(keys)).collect();
                arrays[5].0.retain(|(_, count)| *count > 0);
                arrays
            };
            all.push(case(op, dtype, &[1, 2, 128, 1], &options, with(vec![q, k, Runs::of([0.0, 1.0])], 2)));
            let (q, k) = (Runs(vec![(0.0, 2)]), Runs(vec![(1.0, 512)]));
            let v = Runs(vec![(1.0, 1), (round(dtype, small), 255)]);
            all.push(case(op, dtype, &[1, 256, 2, 1], &options, with(vec![q, k, v], 256)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::ops;
    use crate::judge::Precision;

    /// Checks that every example fits its op. The search would silently ignore an example that does not fit.
    #[test]
    fn examples_are_judged() {
        let ops = ops();
        for case in examples() {
            let op = ops.iter().find(|op| op.name == case.op).unwrap();
            assert!((op.spec)(case.dtype).fits(&case), "the op must accept the example {}", case.text());
            let verdict = (op.judge)(&case, Precision::Fast);
            assert!(verdict.is_some(), "the error bound must cover the example {}", case.text());
        }
    }
}
