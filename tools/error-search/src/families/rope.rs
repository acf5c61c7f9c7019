//! Rotary embedding, its gradient, and the norm that is fused with it.

use super::norms::EPS;
use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, RmsNorm, Rope, RopeTable, Rows};

pub fn ops() -> Vec<Op> {
    let op = |name, judge| Op { name, family: "rope", dtypes: DType::ALL, spec, judge };
    vec![
        op("rope", |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Forward))),
        op("rope_backward", |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Backward))),
        op("qk_norm_rope", |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Norm))),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Forward,
    Backward,
    Norm,
}

fn spec(dtype: DType) -> Spec {
    let cols: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 2, max: 512, of: 2, edges: &[2, 4, 30, 32, 64, 128, 256] }],
        options: vec![
            Choice::Integer(1 << 20),
            Choice::One(&[10_000.0, 10_000.0, 500_000.0, 1e6, 1.5]),
            Choice::One(&[0.0, 1.0]),
            EPS,
            Choice::One(&[0.0, 1.0]),
        ],
        arrays: vec![
            Array { len: cols, dtype, values: Values::Numbers },
            Array { len: cols, dtype: DType::F32, values: Values::Numbers },
        ],
    }
}

fn judge<E: Element>(case: &Case, how: Precision, kind: Kind) -> Option<Verdict> {
    let x: Vec<E> = case.array(0);
    let weight: Option<Vec<f32>> = (case.options[4] != 0.0).then(|| case.array(1));
    if how == Precision::Fast && !is_moderate(E::DTYPE, x.iter().map(|x| x.widen())) {
        return None;
    }
    let (position, cols, eps) = (case.options[0] as i64, x.len(), case.options[3]);
    let rope = Rope::default().theta(case.options[1]).interleaved(case.options[2] != 0.0);
    let table = RopeTable::new(&[position], cols, &rope).ok()?;
    let view = || Rows::new(&x, 1, cols).ok();
    let (name, got) = match kind {
        Kind::Forward => ("rope", evenkeel::rope(view()?, &table).ok()?),
        Kind::Backward => ("rope_backward", evenkeel::rope_backward(view()?, &table).ok()?),
        Kind::Norm => {
            let mut options = RmsNorm::default().eps(eps);
            if let Some(weight) = &weight {
                options = options.weight(weight);
            }
            ("qk_norm_rope", evenkeel::qk_norm_rope(view()?, &table, &options).ok()?)
        }
    };
    let wide: Vec<f64> = x.iter().map(|x| x.widen()).collect();
    let of_weight: Option<Vec<f64>> = weight.map(|weight| weight.into_iter().map(f64::from).collect());
    let pair = |i: usize| {
        let (half, i) = (cols / 2, i % cols);
        if rope.interleaved { (i ^ 1, i / 2) } else { ((i + half) % cols, i % half) }
    };
    let rotated: Vec<f64> = match kind {
        Kind::Norm => {
            let rows = reference::rms_norm::<f64>(&wide, of_weight.as_deref(), 0.0, eps);
            rows.into_iter().map(|n| n.to_f64()).collect()
        }
        _ => wide.clone(),
    };
    // The row is rounded to the storage type between the norm and the rotation.
    if rotated.iter().any(|n| !E::from_wide(*n).widen().is_finite()) {
        return None;
    }
    let at = |i: usize| rotated[i].abs().max(rotated[pair(i).0].abs());
    let bound = bound::<E>(name);
    if how == Precision::Slow {
        let exact = match kind {
            Kind::Forward => reference::rope::<f64>(&wide, position, &rope),
            Kind::Backward => reference::rope_backward::<f64>(&wide, position, &rope),
            Kind::Norm => reference::qk_norm_rope::<f64>(&wide, of_weight.as_deref(), 0.0, eps, (position, &rope)),
        };
        return worst::<E, DoubleDouble>(&got, &exact, bound, at);
    }
    let real = Twofold::from;
    let mut n: Vec<Twofold> = wide.iter().map(|&x| real(x)).collect();
    if kind == Kind::Norm {
        let squares = n.iter().fold(real(0.0), |sum, &x| sum + x * x);
        let root = (squares / real(cols as f64) + real(eps)).sqrt();
        for (i, n) in n.iter_mut().enumerate() {
            let weight = of_weight.as_ref().map_or(1.0, |weight| weight[i]);
            *n = if root == real(0.0) { real(0.0) } else { *n / root * real(weight) };
        }
    }
    let result = |i: usize| {
        let (other, angle) = pair(i);
        let (sin, cos) = Twofold::sin_cos(reference::rope_angle(position, angle, cols, &rope));
        let is_first = if rope.interleaved { i % 2 == 0 } else { i < cols / 2 };
        // The gradient is the inverse rotation.
        let sin = if is_first == (kind == Kind::Backward) { sin } else { -sin };
        n[i] * cos + n[other] * sin
    };
    let exact: Vec<Twofold> = (0..cols).map(result).collect();
    worst(&got, &exact, bound, at)
}
