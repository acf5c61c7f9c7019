//! Random calls. Their options are either allowed by the op's documentation, or arbitrary.

use crate::call::{Call, Operands, lanes};
use crate::support::generate::{Bits, special};
use evenkeel::registry::{Kind, OPS, Op};
use evenkeel::testing::hostile;
use proptest::prelude::*;

/// Call of an op with its operands.
#[derive(Clone, Debug)]
pub struct Case<E> {
    pub op: &'static str,
    pub call: Call,
    pub rows: usize,
    pub cols: usize,
    pub x: Vec<E>,
    pub dy: Vec<E>,
}

impl<E: Bits> Case<E> {
    pub fn operands(&self) -> Operands<'_, E> {
        Operands::new(&self.x, &self.dy, self.rows, self.cols)
    }
}

/// Returns whether the op works on each element separately. For such an op, each element is a row.
pub fn is_of_elements(op: &Op) -> bool {
    matches!(op.kind, Kind::Elementwise | Kind::ElementwiseBackward | Kind::Pairwise | Kind::PairwiseBackward)
}

/// Generates numbers of rows and columns, small enough to compare every row with the other rows.
fn shapes(op: &'static Op) -> BoxedStrategy<(usize, usize)> {
    if is_of_elements(op) {
        return (0..=70usize).prop_map(|count| (count, 1)).boxed();
    }
    let rows = prop_oneof![1 => Just(0), 20 => 1..=5usize];
    let cols = prop_oneof![1 => Just(0), 20 => 1..=40usize, 4 => 41..=140usize, 1 => 255..=258usize];
    (rows, cols).prop_map(|(rows, cols)| (rows, allowed(op, cols))).boxed()
}

/// Generates numbers of rows and columns for which the work is distributed over threads.
fn large_shapes(op: &'static Op) -> BoxedStrategy<(usize, usize)> {
    (33..=40usize, 2000..=2100usize).prop_map(|(rows, cols)| (rows, allowed(op, cols))).boxed()
}

/// Adjusts the number of columns: to an even number for ops on pairs, and to at least one for ops with classes.
fn allowed(op: &Op, cols: usize) -> usize {
    match op.name {
        "qk_norm_rope" | "rope" | "rope_backward" => cols & !1,
        "cross_entropy" | "cross_entropy_backward" => cols.max(1),
        _ => cols,
    }
}

/// Generates rows of finite values. For a sampler, some logits are -inf.
fn finite_rows<E: Bits>(op: &'static Op, rows: usize, cols: usize) -> BoxedStrategy<Vec<E>> {
    let row = |len| match op.kind {
        Kind::Sampler if len > 0 => prop_oneof![hostile::rows(len..=len), hostile::logits(len..=len)].boxed(),
        _ => hostile::rows::<E>(len..=len).boxed(),
    };
    match rows * cols {
        count if is_of_elements(op) && count < 5000 => row(count),
        count if count < 5000 => prop::collection::vec(row(cols), rows).prop_map(|rows| rows.concat()).boxed(),
        // Repeats a list of 997 values. Each row begins at another place in the list.
        count => row(997).prop_map(move |tile| tile.into_iter().cycle().take(count).collect()).boxed(),
    }
}

/// Generates calls of an op. The strategy `numbers` generates their options.
fn calls(op: &'static Op, numbers: impl Strategy<Value = f64> + 'static) -> impl Strategy<Value = Call> {
    let index =
        OPS.iter().position(|other| other.name == op.name).expect("the op of a generated call must be in the registry")
            as u8;
    let given = (any::<(bool, bool, bool)>(), prop::option::of(any::<u64>()), prop::option::of(any::<u16>()));
    let flags = any::<(bool, bool, bool)>();
    let whole = (prop_oneof![0..9u8, any::<u8>()], any::<[i64; 3]>(), any::<u64>());
    (prop::collection::vec(numbers, 8), given, flags, whole).prop_map(
        move |(numbers, ((has_cap, has_top_p, has_min_p), keep, top_k), flags, (policy, positions, seed))| {
            let (causal, before_weight, interleaved) = flags;
            let [scale, cap, eps, offset, theta, temperature, top_p, min_p] = numbers[..] else { unreachable!() };
            Call {
                op: index,
                dtype: 0,
                rows: 0,
                cols: 0,
                level: 0,
                scale,
                softcap: has_cap.then_some(cap),
                causal,
                keep,
                policy,
                eps,
                before_weight,
                offset,
                theta,
                interleaved,
                positions,
                temperature,
                top_k,
                top_p: has_top_p.then_some(top_p),
                min_p: has_min_p.then_some(min_p),
                seed,
            }
        },
    )
}

/// Brings each option into the range documented for the op, for rows of `cols` columns.
fn within_range(mut call: Call, cols: usize) -> Call {
    let (len, _) = lanes(cols);
    let above_zero = |value: f64| value.abs().max(f64::MIN_POSITIVE);
    call.softcap = call.softcap.map(above_zero);
    call.eps = call.eps.abs();
    call.theta = above_zero(call.theta);
    call.temperature = call.temperature.abs();
    call.top_k = call.top_k.map(|k| k.max(1));
    call.top_p = call.top_p.map(|p| above_zero(p).min(1.0));
    call.min_p = call.min_p.map(|p| p.abs().min(1.0));
    match call.name() {
        "clamped_exp" | "clamped_exp_backward" => {
            (call.scale, call.offset) = (call.scale.min(call.offset), call.scale.max(call.offset));
        }
        "clamped_log" | "clamped_log_backward" => call.eps = above_zero(call.eps),
        // The largest number, 1e30, stands for an infinite limit.
        "clip_grad_norm" | "clip_grad_value" => {
            call.scale = if call.scale == 1e30 { f64::INFINITY } else { call.scale.abs() };
        }
        "cross_entropy" | "cross_entropy_backward" => {
            call.offset = call.offset.abs().min(1.0);
            call.interleaved = true;
        }
        "group_norm" => {
            let divisors: Vec<u8> = (1..=255).filter(|groups| len.is_multiple_of(usize::from(*groups))).collect();
            call.policy = divisors[usize::from(call.policy) % divisors.len()];
        }
        "mean_pool" | "mean_pool_backward" => call.policy = (call.policy % 8).min(len.min(7) as u8),
        _ => {}
    }
    call
}

fn cases<E: Bits>(op: &'static Op, shapes: BoxedStrategy<(usize, usize)>) -> impl Strategy<Value = Case<E>> {
    let numbers = || {
        let points = vec![0.0, 1.0, -1.0, 0.125, 1e-12, 1e-6, 1e-5, 30.0, 1e4, 700.0, -700.0, 1e-300, 1e30, -1e30];
        prop_oneof![3 => -4.0..4.0f64, 2 => prop::sample::select(points)]
    };
    shapes.prop_flat_map(move |(rows, cols)| {
        let operands = (finite_rows(op, rows, cols), finite_rows(op, rows, cols));
        (calls(op, numbers()), operands).prop_map(move |(call, (x, dy))| {
            let call = within_range(call, cols);
            Case { op: op.name, call, rows, cols, x, dy }
        })
    })
}

/// Generates finite operands, with options that the op's documentation allows.
pub fn valid<E: Bits>(op: &'static Op) -> impl Strategy<Value = Case<E>> {
    cases(op, shapes(op))
}

/// Generates cases like [`valid`], but large enough to be distributed over threads.
pub fn large<E: Bits>(op: &'static Op) -> impl Strategy<Value = Case<E>> {
    cases(op, large_shapes(op))
}

/// Generates operands with random bits, and options with any value.
pub fn anything<E: Bits>(op: &'static Op) -> impl Strategy<Value = Case<E>> {
    let numbers = || prop_oneof![2 => -4.0..4.0f64, 1 => prop::num::f64::ANY, 1 => prop::sample::select(special())];
    let values = |count| {
        let value = prop_oneof![any::<u64>().prop_map(E::from_bits), prop::sample::select(special::<E>())];
        prop::collection::vec(value, count)
    };
    (0..=4usize, 0..=60usize).prop_flat_map(move |(rows, cols)| {
        (calls(op, numbers()), values(rows * cols), values(rows * cols)).prop_map(move |(call, x, dy)| Case {
            op: op.name,
            call,
            rows,
            cols,
            x,
            dy,
        })
    })
}
