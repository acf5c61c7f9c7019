//! Cross-entropy of logits against class indices on a Neuron device.

#![forbid(unsafe_code)]

use super::scores::{self, Logits, MaskedLogits};
use super::{one_a_column, output_status};
use crate::cpu::cross_entropy::RowLoss;
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::{self, Execute};
use crate::neuron::graph::{Comparison, Graph};
use crate::neuron::program::{ElementType, Matrix, Program};
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::loss::{Loss, Reduction};
use crate::rows::Rows;

const OP: &str = "cross_entropy";

/// Returns the program of [`cross_entropy`](crate::cross_entropy()). The host combines the program's outputs in f64, so
/// that no loss overflows f32.
///
/// | inputs, in order | |
/// |---|---|
/// | logits | `[rows, cols]` |
/// | targets, -1 where a row is ignored | `[rows]`, S32 |
/// | with label smoothing and weights: the weights divided by the sum of their magnitudes | `[cols]`, F32 |
///
/// | outputs, in order | `[rows]` each |
/// |---|---|
/// | the largest logit | F32 |
/// | the target's logit | F32 |
/// | ln of the sum of e^(logit - largest); adding the largest gives log-sum-exp | F32 |
/// | with label smoothing, the weighted mean of (largest - logit) / 4 | F32 |
/// | status: [`Masked`](crate::neuron::Status::Masked) if the target, or with smoothing any class, is masked | S32 |
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program).
pub fn program(dtype: DType, rows: usize, cols: usize, options: &CrossEntropy<'_>) -> Result<Program> {
    options.check(OP)?;
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let scores = MaskedLogits::new(&mut g, of, &Logits::of(OP, &options.scores())?);
    let target = g.parameter(ElementType::S32, &[rows]);
    let half_distance = scores.half_distance(&mut g);
    let exponentials = scores.exponentials(&mut g, half_distance);
    let log_sum = scores.log_sum(&mut g, exponentials);

    let target = g.in_f32(target);
    let counts = g.is(target, Comparison::Ge, 0.0);
    let columns = g.columns(rows, cols);
    let is_target = g.compare(Comparison::Eq, columns, target);
    let of_target = g.select_or(is_target, scores.logits, f32::MIN);
    let of_target = g.largest(of_target);

    // True where a class is masked but contributes to the loss.
    let is_masked = g.not(scores.is_live);
    let matters = if options.label_smoothing == 0.0 { g.and(is_target, is_masked) } else { is_masked };
    let matters = g.and(matters, counts);
    let masked = g.one_if(matters);
    let masked = g.largest(masked);
    let is_plain = g.is(scores.status, Comparison::Lt, 1.0);
    let status = g.select(is_plain, masked, scores.status);

    g.output(scores.max);
    g.output(of_target);
    g.output(log_sum);
    if options.label_smoothing != 0.0 {
        let quarter = g.times(half_distance, -0.5);
        let share = match options.weight {
            None => g.f32(1.0 / cols as f32),
            Some(_) => {
                let shares = g.parameter(ElementType::F32, &[cols]);
                g.in_each_row(shares, rows)
            }
        };
        let below = g.select_or(scores.is_live, quarter, 0.0);
        let below = g.multiply(below, share);
        let below = g.sum(below);
        g.output(below);
    }
    output_status(&mut g, status);
    Program::new(OP, of.name(OP), g)
}

/// Computes [`cross_entropy`](crate::cross_entropy()) on a device, except for the rows that the device leaves to the
/// host.
///
/// # Errors
/// The errors of [`program`], the op and the device; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a
/// weight that is not finite.
pub fn run<E: Element>(
    device: &impl Execute,
    logits: Rows<'_, E>,
    targets: &[i64],
    options: &CrossEntropy<'_>,
) -> Result<Loss> {
    let (rows, cols) = (logits.rows(), logits.cols());
    if scores::is_empty(&logits) {
        return crate::cross_entropy(logits, targets, options);
    }
    let resolved = options.resolve(OP, rows, cols, targets)?;
    let weight = one_a_column(OP, "weight", options.weight, (cols, 0.0))?;
    let smooths = options.label_smoothing != 0.0;
    let magnitudes: f64 = weight.iter().flatten().map(|w| f64::from(w.abs())).sum();
    let over = if magnitudes == 0.0 { 1.0 } else { magnitudes };
    let shares: Option<Vec<f32>> = weight.as_ref().map(|w| w.iter().map(|w| (f64::from(*w) / over) as f32).collect());
    let shares = shares.filter(|_| smooths).map(|shares| execute::to_bytes(&shares));
    // Targets that are not ignored are valid classes, as checked above.
    let classes = targets.iter().map(|&t| if t == options.ignore_index { -1 } else { t as i32 });
    let classes: Vec<u8> = classes.flat_map(i32::to_le_bytes).collect();

    let program = program(E::DTYPE, rows, cols, options)?;
    let inputs = [Some(&execute::rows_to_bytes(logits)[..]), Some(&classes), shares.as_deref()];
    let (numbers, status) = if smooths {
        let [max, of_target, log_sum, below, status] = execute::run(device, &program, &inputs)?;
        ([max, of_target, log_sum, below], status)
    } else {
        let [max, of_target, log_sum, status] = execute::run(device, &program, &inputs)?;
        ([max, of_target, log_sum, Vec::new()], status)
    };
    let [max, of_target, log_sum, below] = numbers.map(|bytes| execute::elements::<f32>(&bytes));
    let number = |of: &[f32], row: usize| of.get(row).copied().map_or(0.0, f64::from);

    // `sum` is the sum of all weights. `over` is the sum of the magnitudes of all weights. The program's weights were
    // divided by `over`.
    let of_weight = |class: i64| options.weight.and_then(|w| w.get(class as usize)).unwrap_or(1.0);
    let sum: f64 = weight.as_ref().map_or(cols as f64, |w| w.iter().map(|w| f64::from(*w)).sum());
    let over = if weight.is_some() { over } else { cols as f64 };
    let (share, rest) = (options.label_smoothing / cols as f64, 1.0 - options.label_smoothing);
    let counts = |row: usize| targets[row] != options.ignore_index;
    let mut losses: Vec<RowLoss> = (0..rows)
        .map(|row| {
            if !counts(row) {
                return RowLoss::default();
            }
            let log_sum = number(&log_sum, row);
            let nll = (number(&max, row) - number(&of_target, row)) + log_sum;
            let of_all = 4.0 * over * number(&below, row) + log_sum * sum;
            let lse = number(&max, row) + log_sum;
            RowLoss { entropy: rest * of_weight(targets[row]) * nll + share * of_all, z: options.z_loss * (lse * lse) }
        })
        .collect();
    execute::finish(OP, &status, |row| {
        if counts(row) {
            losses[row] = host(Rows::new(logits.row(row), 1, cols)?, targets[row], options)?;
        }
        Ok(())
    })?;
    Ok(options.reduce(&losses, &resolved))
}

/// Computes a row's entropy and z-loss on the host. The entropy is the loss without the z-loss. The z-loss is the part
/// of the loss that remains if all weights are 0.
fn host<E: Element>(row: Rows<'_, E>, target: i64, options: &CrossEntropy<'_>) -> Result<RowLoss> {
    let nothing = vec![0.0f32; row.cols()];
    let value = |options: CrossEntropy<'_>| {
        crate::cross_entropy(row, &[target], &options.reduction(Reduction::Sum)).map(|loss| loss.value())
    };
    Ok(RowLoss { entropy: value(options.z_loss(0.0))?, z: value(options.weight(&nothing))? })
}
