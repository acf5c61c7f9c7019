//! Random calls of any registered op, with any rows and options. The fuzz target and `tests/properties` use them.

use arbitrary::Arbitrary;
use evenkeel::registry::OPS;
use evenkeel::{
    Attention, BceWithLogits, ClampedExp, ClampedLog, ClipGradNorm, ClipMode, CrossEntropy, Draw, Element, Error,
    FullyMasked, GroupNorm, Heads, KlDiv, L2Normalize, Lanes, LayerNorm, Mask, MeanPool, NormType, Reduction, RmsNorm,
    RmsNormLinear, Rope, RopeTable, Rounding, Rows, SafeDiv, SamplerConfig, Softmax, SoftmaxFromOutput,
};

/// Arguments of a call: op, shape and options. An option's value may lie outside its allowed range.
///
/// The order of the fields is the order in which the fuzzer's saved corpus encodes them.
#[derive(Arbitrary, Clone, Debug)]
pub struct Call {
    pub op: u8,
    pub dtype: u8,
    pub rows: u8,
    pub cols: u8,
    pub level: u8,
    pub scale: f64,
    pub softcap: Option<f64>,
    pub causal: bool,
    pub keep: Option<u64>,
    pub policy: u8,
    pub eps: f64,
    pub before_weight: bool,
    pub offset: f64,
    pub theta: f64,
    pub interleaved: bool,
    pub positions: [i64; 3],
    pub temperature: f64,
    pub top_k: Option<u16>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub seed: u64,
}

impl Call {
    pub fn name(&self) -> &'static str {
        OPS[usize::from(self.op) % OPS.len()].name
    }

    pub fn keeps(&self, column: usize) -> bool {
        self.keep.is_none_or(|bits| bits >> (column % 64) & 1 == 1)
    }

    /// Returns whether a position of a `rows` x `cols` matrix is masked by the keep flags or by causality.
    pub fn masks(&self, row: usize, column: usize, rows: usize, cols: usize) -> bool {
        !self.keeps(column) || self.causal && column + rows > cols + row
    }

    /// Returns the number of valid tokens of a sequence.
    pub fn length(&self, sequence: usize) -> usize {
        usize::from(self.policy % 8) >> sequence.min(3)
    }

    /// Returns the target class of a row. Every fourth row has -100, the ignored class.
    pub fn target(&self, row: usize, cols: usize) -> i64 {
        match row % 4 {
            3 => -100,
            _ if self.interleaved => (row * 7 % cols.max(1)) as i64,
            _ => self.positions[row % 3],
        }
    }

    pub fn reduction(&self) -> Reduction {
        [Reduction::None, Reduction::Mean, Reduction::Sum][usize::from(self.policy) % 3]
    }

    pub fn policy(&self) -> FullyMasked {
        [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error][usize::from(self.policy) % 3]
    }

    fn rounding(&self) -> Rounding {
        if self.before_weight { Rounding::BeforeWeight } else { Rounding::Once }
    }
}

/// Factors a row length into `[len, width]`, for ops on lanes along an axis other than the last.
pub fn lanes(cols: usize) -> (usize, usize) {
    let width = 1 << cols.trailing_zeros().min(6);
    (cols / width, width)
}

/// Inputs of a call. Inputs other than `x` and `dy`, such as a row's position, depend on the row's index in the batch.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a, E> {
    pub x: &'a [E],
    /// For a gradient op, the gradient with respect to the result. For other ops, the second operand.
    pub dy: &'a [E],
    pub rows: usize,
    pub cols: usize,
    /// Batch index of the first row. `batch` is the number of rows of the whole batch.
    first: usize,
    batch: usize,
}

impl<'a, E: Element> Operands<'a, E> {
    pub fn new(x: &'a [E], dy: &'a [E], rows: usize, cols: usize) -> Self {
        Operands { x, dy, rows, cols, first: 0, batch: rows }
    }

    /// Selects one row, which keeps its index in the batch.
    pub fn row(&self, row: usize) -> Self {
        let elements = row * self.cols..(row + 1) * self.cols;
        Operands { x: &self.x[elements.clone()], dy: &self.dy[elements], rows: 1, first: self.first + row, ..*self }
    }

    fn each_row(&self) -> impl Iterator<Item = &'a [E]> + use<'a, E> {
        let Operands { x, rows, cols, .. } = *self;
        (0..rows).map(move |row| &x[row * cols..][..cols])
    }

    fn numbers(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.rows
    }

    /// Returns the first element of each row of `dy`: the gradient for an op with one result per row.
    fn dy_of_rows(&self) -> Vec<E> {
        (0..self.rows).map(|row| self.dy.get(row * self.cols).copied().unwrap_or(E::ZERO)).collect()
    }

    /// Builds the table for the positions of the rows. A list of up to three positions repeats along the batch, as a
    /// model repeats the positions for each head.
    fn table(&self, call: &Call) -> Result<RopeTable, Error> {
        let count = [3, 2, 1].into_iter().find(|count| self.batch.is_multiple_of(*count)).unwrap_or(1);
        let positions: Vec<i64> = self.numbers().take(count).map(|row| call.positions[row % count]).collect();
        RopeTable::new(&positions, self.cols, &Rope::default().theta(call.theta).interleaved(call.interleaved))
    }
}

/// One result with its bits. Two results are equal if their bits are equal, so a NaN equals itself.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub bits: u64,
    pub value: f64,
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl<E: Element> From<E> for Number {
    fn from(value: E) -> Self {
        Number { bits: value.bits(), value: value.widen() }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Results of each row; empty for a row that the sampler rejected.
    pub rows: Vec<Vec<Number>>,
    /// Results of the whole tensor.
    pub whole: Vec<Number>,
}

impl Outcome {
    fn of_rows<E: Element>(values: &[E], rows: usize) -> Self {
        let each = values.len().checked_div(rows).unwrap_or(0);
        let row = |row| numbers(&values[row * each..][..each]);
        Outcome { rows: (0..rows).map(row).collect(), whole: Vec::new() }
    }

    fn whole<E: Element>(values: &[E]) -> Self {
        Outcome { rows: Vec::new(), whole: numbers(values) }
    }
}

fn numbers<E: Element>(values: &[E]) -> Vec<Number> {
    values.iter().map(|value| Number::from(*value)).collect()
}

fn finite<E: Element>(values: &[E]) -> bool {
    values.iter().all(|value| value.widen().is_finite())
}

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$backward:ident $($form:ident)*];)*) => {
        fn elementwise<E: Element>(op: &str, x: &[E], dy: &[E]) -> Result<Vec<E>, Error> {
            match op {
                $(
                    stringify!($name) => evenkeel::$name(x),
                    stringify!($backward) => evenkeel::$backward(x, dy),
                )*
                _ => panic!("`tests/support/call.rs` must call the op {op}"),
            }
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

/// Runs the call, and asserts the properties that hold for any options.
pub fn run<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<Outcome, Error> {
    let Operands { x, dy, rows, cols, .. } = *operands;
    let name = call.name();
    let (view, gradients) = (Rows::new(x, rows, cols)?, Rows::new(dy, rows, cols)?);
    let flags: Vec<bool> = (0..cols).map(|i| call.keeps(i)).collect();
    let mut mask = Mask::keep(&flags, &[cols]);
    if call.causal {
        let offset = cols as isize + operands.first as isize - operands.batch as isize;
        mask = mask.and_causal().offset(offset);
    }
    let mut softmax = Softmax::default().scale(call.scale).mask(&mask).fully_masked(call.policy());
    softmax.softcap = call.softcap;
    let from_output = SoftmaxFromOutput::default().scale(call.scale);
    let weight: Vec<f64> = (0..cols).map(|i| call.scale * (i as f64 - 1.5)).collect();
    let weighted = call.keep.is_some();
    let clamped_exp = ClampedExp::default().min(call.scale).max(call.offset);
    let clamped_log = ClampedLog::default().floor(call.eps);
    let (len, width) = lanes(cols);
    let lengths: Vec<usize> = operands.numbers().map(|row| call.length(row)).collect();
    let tokens = Mask::lengths(&lengths);
    let refused = if call.before_weight { FullyMasked::Error } else { FullyMasked::Zeros };
    let pool = MeanPool::default().mask(&tokens).fully_masked(refused);
    let y = match name {
        "clamped_exp" => evenkeel::clamped_exp(x, &clamped_exp),
        "clamped_exp_backward" => evenkeel::clamped_exp_backward(x, dy, &clamped_exp),
        "clamped_log" => evenkeel::clamped_log(x, &clamped_log),
        "clamped_log_backward" => evenkeel::clamped_log_backward(x, dy, &clamped_log),
        "log_add_exp" => evenkeel::log_add_exp(x, dy),
        "swiglu" => evenkeel::swiglu(x, dy),
        "swiglu_backward" => return swiglu_backward(operands),
        "safe_div" => evenkeel::safe_div(x, dy, &SafeDiv::default().eps(call.eps)),
        "softmax" => evenkeel::softmax(view, &softmax),
        "softmax_backward" => evenkeel::softmax_backward(view, gradients, &softmax),
        "softmax_backward_from_output" => {
            let y = probabilities(x);
            evenkeel::softmax_backward_from_output(Rows::new(&y, rows, cols)?, gradients, &from_output)
        }
        "log_softmax" => evenkeel::log_softmax(view, &softmax),
        "log_softmax_backward" => evenkeel::log_softmax_backward(view, gradients, &softmax),
        "log_softmax_backward_from_output" => evenkeel::log_softmax_backward_from_output(view, gradients, &from_output),
        "logsumexp" => evenkeel::logsumexp(view, &softmax),
        "logsumexp_backward" => evenkeel::logsumexp_backward(view, &operands.dy_of_rows(), &softmax),
        "rms_norm" => {
            let mut options = RmsNorm::default().eps(call.eps).weight_offset(call.offset).rounding(call.rounding());
            if weighted {
                options = options.weight(&weight);
            }
            evenkeel::rms_norm(view, &options)
        }
        "layer_norm" => {
            let mut options = LayerNorm::default().eps(call.eps);
            if weighted {
                options = options.weight(&weight).bias(&weight);
            }
            evenkeel::layer_norm(view, &options)
        }
        "group_norm" => {
            let mut options = GroupNorm::new(usize::from(call.policy)).eps(call.eps);
            if weighted {
                options = options.weight(&weight[..len]).bias(&weight[..len]);
            }
            Lanes::shaped(x, &[rows, len, width], 1).and_then(|x| evenkeel::group_norm(x, &options))
        }
        "rms_norm_backward" => return rms_norm_backward(call, view, gradients, &weight),
        "layer_norm_backward" => return layer_norm_backward(call, view, gradients, &weight),
        "qk_norm_rope" => {
            let mut options = RmsNorm::default().eps(call.eps).weight_offset(call.offset).rounding(call.rounding());
            if weighted {
                options = options.weight(&weight);
            }
            operands.table(call).and_then(|table| evenkeel::qk_norm_rope(view, &table, &options))
        }
        "rms_norm_linear" => {
            let mut norm = RmsNorm::default().eps(call.eps).weight_offset(call.offset).rounding(call.rounding());
            let mut options = RmsNormLinear::default().rounded(call.interleaved);
            if weighted {
                norm = norm.weight(&weight);
                options = options.bias(&weight[..cols.min(3)]);
            }
            let matrix = matrix(cols);
            let matrix = Rows::new(&matrix, cols.min(3), cols);
            matrix.and_then(|matrix| evenkeel::rms_norm_linear(view, matrix, &options.norm(norm)))
        }
        "rope" => operands.table(call).and_then(|table| evenkeel::rope(view, &table)),
        "rope_backward" => operands.table(call).and_then(|table| evenkeel::rope_backward(view, &table)),
        "mean_pool" => Lanes::shaped(x, &[rows, len, width], 1).and_then(|x| evenkeel::mean_pool(x, &pool)),
        "mean_pool_backward" => {
            let start = |row: &'_ [E]| (0..width).map(|i| row.get(i).copied().unwrap_or(E::ZERO)).collect::<Vec<E>>();
            let dy: Vec<E> = operands.each_row().flat_map(start).collect();
            evenkeel::mean_pool_backward(&dy, [rows, len, width], &pool)
        }
        "l2_normalize" => evenkeel::l2_normalize(view, &L2Normalize::default().eps(call.eps)),
        "clip_grad_norm" => return clip_grad_norm(call, x),
        "clip_grad_value" => {
            let mut y = x.to_vec();
            evenkeel::clip_grad_value(&mut [(&mut y).into()], call.scale).map(|()| y)
        }
        "attention" => attention(call, operands),
        "attention_backward" => attention_backward(call, operands),
        "cross_entropy" => return cross_entropy(call, operands).map(|(loss, _)| loss),
        "cross_entropy_backward" => return cross_entropy(call, operands).map(|(_, dx)| dx),
        "bce_with_logits" => return bce_with_logits(call, operands),
        "kl_div" => return kl_div(call, operands),
        "inspect" => return inspect(x),
        "sample" => return sample(call, operands),
        other => elementwise(other, x, dy),
    }?;
    if cols > 0 && (matches!(name, "softmax" | "l2_normalize") || name == "layer_norm" && !weighted) {
        for (row, y) in x.chunks(cols).zip(y.chunks(cols)) {
            let total: f64 = y.iter().map(|v| v.widen()).sum();
            if finite(row) {
                assert!(finite(y), "{name}: expected finite results for finite inputs: {row:?} gave {y:?}");
                assert!(
                    name != "softmax" || total < 1.1,
                    "softmax: expected probabilities that sum to at most 1.1, got {total}"
                );
            }
        }
    }
    if cols > 0 && name == "softmax_backward" && call.scale.abs() <= 1.0 {
        for ((row, dy), dx) in x.chunks(cols).zip(dy.chunks(cols)).zip(y.chunks(cols)) {
            assert!(
                !(finite(row) && finite(dy)) || finite(dx),
                "softmax_backward: expected finite gradients for finite inputs: x {row:?}, dy {dy:?} gave {dx:?}"
            );
        }
    }
    Ok(Outcome::of_rows(&y, rows))
}

/// Returns the magnitudes of the elements, limited to 1. NaN and infinities are unchanged.
fn probabilities<E: Element>(x: &[E]) -> Vec<E> {
    let probability = |x: f64| if x.is_finite() { x.abs().min(1.0) } else { x };
    x.iter().map(|x| E::from_wide(probability(x.widen()))).collect()
}

/// Returns a matrix of up to three rows, with multiples of 1/2 from -2 to 2. Each row of `x` is multiplied by this
/// matrix.
pub fn matrix<E: Element>(cols: usize) -> Vec<E> {
    (0..cols.min(3) * cols).map(|i| E::from_wide((i * 7 % 9) as f64 / 2.0 - 2.0)).collect()
}

fn attention<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<Vec<E>, Error> {
    attended(call, operands, |[q, k, v], _, options| evenkeel::attention(q, k, v, options))
}

/// Returns, for each row, the gradients of its query, its keys and its values, one after the other. [`attended`]
/// describes how the operands are taken from `x` and `dy`.
fn attention_backward<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<Vec<E>, Error> {
    let Operands { rows, cols, .. } = *operands;
    attended(call, operands, |[q, k, v], dy, options| {
        let gradients = evenkeel::attention_backward(q, k, v, dy, options)?;
        let width = q.shape()[3];
        let row = |row: usize| {
            let of_keys = row * cols..(row + 1) * cols;
            let dq = &gradients.dq[row * width..][..width];
            [dq, &gradients.dk[of_keys.clone()], &gradients.dv[of_keys]].concat()
        };
        Ok((0..rows).flat_map(row).collect())
    })
}

/// Calls `run` with queries, keys, values and the gradient of the results. Each row of `x` and `dy` is one batch entry.
/// The lanes of a row of `x` are the keys, and the first lane is also the query. The lanes of a row of `dy` are the
/// values, and the first lane is also the gradient.
fn attended<E: Element, R>(
    call: &Call,
    operands: &Operands<'_, E>,
    run: impl FnOnce([Heads<'_, E>; 3], Heads<'_, E>, &Attention<'_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let Operands { x, dy, rows, cols, .. } = *operands;
    let (len, width) = lanes(cols);
    let width = if len == 0 { 0 } else { width };
    let [queries, grads] =
        [x, dy].map(|data| -> Vec<E> { (0..rows).flat_map(|row| &data[row * cols..][..width]).copied().collect() });
    let flags: Vec<bool> = (0..len).map(|key| call.keeps(key)).collect();
    let mask = Mask::keep(&flags, &[len]);
    let mut options = Attention::default().scale(call.scale).mask(&mask).fully_masked(call.policy());
    options.softcap = call.softcap;
    let (one, all) = ([rows, 1, 1, width], [rows, 1, len, width]);
    let parts = [Heads::new(&queries, one)?, Heads::new(x, all)?, Heads::new(dy, all)?];
    run(parts, Heads::new(&grads, one)?, &options)
}

/// Returns, for each row, the gradients of the gate and of the other operand. Both operands are `x`.
fn swiglu_backward<E: Element>(operands: &Operands<'_, E>) -> Result<Outcome, Error> {
    let Operands { x, dy, rows, cols, .. } = *operands;
    let (dgate, dup) = evenkeel::swiglu_backward(x, x, dy)?;
    let row = |row| [&dgate, &dup].map(|d| numbers(&d[row * cols..][..cols])).concat();
    Ok(Outcome { rows: (0..rows).map(row).collect(), whole: Vec::new() })
}

fn rms_norm_backward<E: Element>(
    call: &Call,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    weight: &[f64],
) -> Result<Outcome, Error> {
    let options = RmsNorm::default().weight(weight).eps(call.eps).weight_offset(call.offset).rounding(call.rounding());
    let gradients = evenkeel::rms_norm_backward(x, dy, &options)?;
    let whole = numbers(&gradients.dweight.unwrap_or_default());
    Ok(Outcome { whole, ..Outcome::of_rows(&gradients.dx, x.rows()) })
}

fn layer_norm_backward<E: Element>(
    call: &Call,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    weight: &[f64],
) -> Result<Outcome, Error> {
    let options = LayerNorm::default().weight(weight).bias(weight).eps(call.eps);
    let gradients = evenkeel::layer_norm_backward(x, dy, &options)?;
    let sums = [gradients.dweight, gradients.dbias].into_iter().flatten();
    let whole = sums.flat_map(|sums| numbers(&sums)).collect();
    Ok(Outcome { whole, ..Outcome::of_rows(&gradients.dx, x.rows()) })
}

/// Clips two tensors together: `x`, and a tensor with the single element `eps`. The results are the norm, the clipped
/// second tensor and the clipped `x`, in this order.
fn clip_grad_norm<E: Element>(call: &Call, x: &[E]) -> Result<Outcome, Error> {
    let norm_type = [NormType::Two, NormType::One, NormType::Infinity][usize::from(call.policy) % 3];
    let mode = if call.interleaved { ClipMode::Torch } else { ClipMode::Exact };
    let options = ClipGradNorm::new(call.scale).norm_type(norm_type).mode(mode).error_if_nonfinite(call.causal);
    let (mut y, mut rest) = (x.to_vec(), [call.eps]);
    let norm = evenkeel::clip_grad_norm(&mut [(&mut y).into(), (&mut rest).into()], &options);
    let (before, after) = (numbers(x), numbers(&y));
    assert!(
        norm.is_ok() || before == after,
        "clip_grad_norm returned an error; expected unchanged gradients {x:?}, got {y:?}"
    );
    assert!(
        !finite(x) || !call.eps.is_finite() || finite(&y),
        "clip_grad_norm: expected finite results for finite inputs: {x:?} gave {y:?}"
    );
    let mut outcome = Outcome::whole(&[norm?, rest[0]]);
    outcome.whole.extend(after);
    Ok(outcome)
}

/// Returns the loss and its gradient as two outcomes.
fn cross_entropy<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<(Outcome, Outcome), Error> {
    let Operands { x, rows, cols, .. } = *operands;
    let mut options = CrossEntropy::default().label_smoothing(call.offset).z_loss(call.eps);
    options.softcap = call.softcap;
    options.reduction = call.reduction();
    let weight: Vec<f64> = (0..cols).map(|i| call.keep.map_or(1.0, |bits| (bits >> (i % 64) & 3) as f64)).collect();
    if call.causal {
        options = options.weight(&weight);
    }
    let targets: Vec<i64> = operands.numbers().map(|row| call.target(row, cols)).collect();
    let dloss = vec![call.scale; if options.reduction == Reduction::None { rows } else { 1 }];
    let view = Rows::new(x, rows, cols)?;
    let loss = evenkeel::cross_entropy(view, &targets, &options)?;
    let (with, dx) = evenkeel::cross_entropy_backward(view, &targets, &dloss, &options)?;
    assert_eq!(numbers(loss.as_slice()), numbers(with.as_slice()));
    assert!(!loss.as_slice().iter().any(|v| *v < -1e-9), "cross_entropy: expected losses of at least 0, got {loss:?}");
    for ((row, dx), target) in operands.each_row().zip(dx.chunks(cols.max(1))).zip(&targets) {
        let no_nan = dx.iter().all(|v| !v.widen().is_nan());
        assert!(
            !finite(row) || !call.scale.is_finite() || no_nan,
            "cross_entropy_backward: expected no NaN for finite logits: {row:?} gave {dx:?}"
        );
        assert!(
            *target != -100 || dx.iter().all(|v| v.bits() == 0),
            "cross_entropy_backward: expected a zero gradient for an ignored row, got {dx:?}"
        );
    }
    let loss = match options.reduction {
        Reduction::None => Outcome::of_rows(loss.as_slice(), rows),
        _ => Outcome::whole(loss.as_slice()),
    };
    Ok((loss, Outcome::of_rows(&dx, rows)))
}

/// Returns each row's loss and gradient. The targets are multiples of 1/4 from 0 to 1, derived from the bits of `dy`.
fn bce_with_logits<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<Outcome, Error> {
    let Operands { x, dy, rows, cols, .. } = *operands;
    let targets: Vec<f64> = dy.iter().map(|dy| (dy.bits() % 5) as f64 / 4.0).collect();
    let weight: Vec<f64> = (0..cols).map(|i| call.keep.map_or(1.0, |bits| (bits >> (i % 64) & 3) as f64)).collect();
    let gamma = call.softcap.map_or(0.0, |cap| cap.min(50.0));
    let options = BceWithLogits::default().pos_weight(&weight).focal_gamma(gamma).reduction(Reduction::None);
    let view = Rows::new(x, rows, cols)?;
    let loss = evenkeel::bce_with_logits(view, &targets, &options)?;
    let (with, dx) = evenkeel::bce_with_logits_backward(view, &targets, &vec![0.75; x.len()], &options)?;
    assert_eq!(numbers(loss.as_slice()), numbers(with.as_slice()));
    assert!(!loss.as_slice().iter().any(|v| *v < 0.0), "bce_with_logits: expected losses of at least 0, got {loss:?}");
    Ok(beside(loss.as_slice(), &dx, rows))
}

/// Returns each row's loss and gradient. The targets are multiples of 1/4 from 0 to 1, derived from the bits of `dy`.
fn kl_div<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<Outcome, Error> {
    let Operands { x, dy, rows, cols, .. } = *operands;
    let targets: Vec<f64> = dy.iter().map(|dy| (dy.bits() % 5) as f64 / 4.0).collect();
    let options = KlDiv::default().scale(call.scale).reduction(Reduction::None);
    let view = Rows::new(x, rows, cols)?;
    let loss = evenkeel::kl_div(view, &targets, &options)?;
    let (with, dx) = evenkeel::kl_div_backward(view, &targets, &vec![0.75; rows], &options)?;
    assert_eq!(numbers(loss.as_slice()), numbers(with.as_slice()));
    Ok(beside(loss.as_slice(), &dx, rows))
}

/// Appends each row's gradients to its losses.
fn beside<E: Element>(losses: &[f64], dx: &[E], rows: usize) -> Outcome {
    let (mut outcome, gradients) = (Outcome::of_rows(losses, rows), Outcome::of_rows(dx, rows));
    outcome.rows.iter_mut().zip(gradients.rows).for_each(|(row, gradient)| row.extend(gradient));
    outcome
}

fn inspect<E: Element>(x: &[E]) -> Result<Outcome, Error> {
    let (stats, found) = (evenkeel::inspect(x)?, evenkeel::finite(x)?);
    assert_eq!((stats.nan, stats.infinite), (found.nan, found.infinite));
    assert_eq!(found.first, x.iter().position(|v| !v.widen().is_finite()));
    let found = [stats.min, stats.max, stats.mean, stats.std, stats.max_abs];
    assert_eq!(finite(&found), stats.nan + stats.infinite < x.len());
    assert!(!(stats.mean < stats.min || stats.mean > stats.max || stats.std > stats.max_abs));
    Ok(Outcome::whole(&found))
}

fn sample<E: Element>(call: &Call, operands: &Operands<'_, E>) -> Result<Outcome, Error> {
    let mut config = SamplerConfig::default().temperature(call.temperature);
    config.top_k = call.top_k.map(usize::from);
    config.top_p = call.top_p;
    config.min_p = call.min_p;
    if call.interleaved {
        config = config.adaptive_p(0.3, 0.9);
    } else if call.before_weight {
        let version = 1 + u32::from(call.policy % 2);
        config = SamplerConfig::default().temperature(call.temperature).mirostat(version, 3.0, 0.1);
    }
    let sampler = config.validate()?;
    let mut outcome = Outcome::default();
    for (row, logits) in operands.numbers().zip(operands.each_row()) {
        outcome.rows.push(match sampler.sample(logits, Draw { seed: call.seed, row: row as u64, draw: 0 }) {
            Ok(sampled) => {
                assert!(
                    logits[sampled.token as usize].widen() > f64::NEG_INFINITY,
                    "sample: expected a token with a logit above -inf, got {sampled:?}"
                );
                assert!(sampled.kept > 0 && sampled.logprob <= 1e-9);
                numbers(&[f64::from(sampled.token), sampled.kept as f64, sampled.logprob])
            }
            Err(Error::NonFiniteInput { index, .. }) => {
                assert!(logits[index].widen().is_nan());
                Vec::new()
            }
            Err(Error::EmptySupport { .. }) => {
                assert!(logits.iter().all(|v| v.widen() == f64::NEG_INFINITY));
                Vec::new()
            }
            Err(other) => return Err(other),
        });
    }
    Ok(outcome)
}
