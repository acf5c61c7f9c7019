//! Sampling on a Neuron device: the device finds the top candidates of each row, and the host draws from them exactly.

#![forbid(unsafe_code)]

use super::output_status;
use super::scores::{self, Logits, MaskedLogits, Operands};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::mask::Mask;
use crate::neuron::execute::{self, Execute, Status};
use crate::neuron::graph::{Comparison, Graph};
use crate::neuron::program::{ElementType, Matrix, Program};
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::sampler::{Adjustments, Filter, Request, Sampled};
use crate::simd::filled;

const OP: &str = "sample";

/// Maximum number of candidates that a program can find in a row.
pub const MAX_CANDIDATES: usize = 256;

/// Returns the program that finds the top candidates of each row of logits, ordered by logit and then by index.
///
/// The program does not apply a temperature, because a temperature does not reorder logits. The host divides by the
/// temperature when it draws. The division may make distinct logits equal, but the candidates were found with the
/// original logits. To find the candidates, the program repeatedly computes the maximum and excludes it, so that the
/// device does not need to sort.
///
/// | inputs, in order | | outputs, in order | |
/// |---|---|---|---|
/// | logits | `[rows, cols]` | logits of the candidates | `[rows, candidates]`, F32 |
/// | keep flags, if any | `[rows, cols]`, U8 | candidates' tokens, padded with `cols` | `[rows, candidates]`, S32 |
/// | | | number of non-candidates whose logit equals the last candidate's | `[rows]`, S32 |
/// | | | status | `[rows]`, S32 |
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program); [`Error::InvalidArgument`] for no candidates or more than
/// [`MAX_CANDIDATES`], and for a mask with a bias, because adding it would round the logits.
pub fn program(dtype: DType, rows: usize, cols: usize, candidates: usize, mask: Option<&Mask<'_>>) -> Result<Program> {
    if !(1..=MAX_CANDIDATES).contains(&candidates) {
        return Err(Error::invalid(OP, "candidates", candidates, format!("in 1 ..= {MAX_CANDIDATES}")));
    }
    if mask.is_some_and(|mask| !mask.bias.is_empty()) {
        return Err(Error::invalid(OP, "mask", "a mask with a bias", "a mask without a bias on Neuron devices"));
    }
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let scores = MaskedLogits::new(&mut g, of, &Logits::of(OP, &options(mask))?);
    let columns = g.columns(rows, cols);
    let beyond = g.f32(cols as f32);
    let lowest = g.f32(f32::MIN);
    let (mut is_left, mut max) = (scores.is_live, scores.max);
    let (mut logits, mut tokens) = (Vec::new(), Vec::new());
    for i in 0..candidates {
        if i > 0 {
            let left = g.select(is_left, scores.logits, lowest);
            max = g.largest(left);
        }
        let is_max = g.compare(Comparison::Eq, scores.logits, max);
        let is_max = g.and(is_max, is_left);
        let token = g.select(is_max, columns, beyond);
        let token = g.smallest(token);
        let is_other = g.compare(Comparison::Ne, columns, token);
        is_left = g.and(is_left, is_other);
        logits.push(g.reshape(max, &[rows, 1]));
        tokens.push(g.reshape(token, &[rows, 1]));
    }
    let is_tie = g.compare(Comparison::Eq, scores.logits, max);
    let is_tie = g.and(is_tie, is_left);
    let ties = g.one_if(is_tie);
    let ties = g.sum(ties);
    let (logits, tokens) = (g.concatenate(&logits), g.concatenate(&tokens));
    g.output(logits);
    for value in [tokens, ties] {
        let value = g.convert(value, ElementType::S32);
        g.output(value);
    }
    output_status(&mut g, scores.status);
    Program::new(OP, format!("{}_{candidates}", of.name(OP)), g)
}

fn options<'a>(mask: Option<&'a Mask<'a>>) -> Softmax<'a> {
    Softmax { mask, ..Softmax::default() }
}

/// Candidates that a program found in a row.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    logits: &'a [f32],
    tokens: &'a [i32],
    ties: i32,
    /// Whether the candidates are all unmasked tokens of the row.
    are_all: bool,
    vocabulary: usize,
}

impl<'a> Candidates<'a> {
    /// Creates the candidates of a row from the first three outputs of the program for this row. `vocabulary` is the
    /// number of tokens.
    ///
    /// # Errors
    /// [`Error::Failed`] if the values are not a valid row of these outputs.
    pub fn new(logits: &'a [f32], tokens: &'a [i32], ties: i32, vocabulary: usize) -> Result<Self> {
        let is_token = |token: &i32| usize::try_from(*token).is_ok_and(|token| token < vocabulary);
        let count = tokens.iter().take_while(|token| is_token(token)).count();
        let is_row = logits.len() == tokens.len() && ties >= 0;
        if !is_row || tokens[count..].iter().any(|token| usize::try_from(*token) != Ok(vocabulary)) {
            let reason = format!("the output is not {} valid candidates of {vocabulary} tokens", tokens.len());
            return Err(Error::failed("neuron", reason));
        }
        let are_all = count < tokens.len();
        Ok(Candidates { logits: &logits[..count], tokens: &tokens[..count], ties, are_all, vocabulary })
    }

    /// Returns the token that would be drawn from the whole row, or `None` if the candidates do not suffice. The
    /// candidates do not suffice if the request may keep a token that is not a candidate, depends on the probabilities
    /// of such tokens, or adjusts logits, for example by a penalty.
    ///
    /// # Errors
    /// The errors of [`Sampler::sample`](crate::Sampler::sample).
    pub fn draw(&self, request: Request<'_>) -> Result<Option<Sampled>> {
        if !self.suffice(request) {
            return Ok(None);
        }
        let mut row = filled(OP, "the logits of a row", self.vocabulary, f32::NEG_INFINITY)?;
        for (token, logit) in self.tokens.iter().zip(self.logits) {
            row[*token as usize] = *logit;
        }
        request.sampler.sample(&row, request.step).map(Some)
    }

    fn suffice(&self, request: Request<'_>) -> bool {
        let (config, plan, step) = request.parts();
        let count = self.tokens.len();
        if Adjustments::new(config, step).is_some() || count == 0 {
            return false;
        }
        if self.are_all {
            return true;
        }
        if plan.feedback.is_some() {
            return false;
        }
        let mut filters = plan.filters.iter().skip_while(|filter| matches!(filter, Filter::Temperature(_)));
        let has_enough = match filters.next() {
            Some(Filter::Greedy) => true,
            Some(&Filter::TopK { k, keeps_equals }) if k < count => {
                !keeps_equals || self.logits[k..].iter().any(|logit| *logit != self.logits[k - 1])
            }
            Some(&Filter::TopK { k, keeps_equals }) => k == count && !(keeps_equals && self.ties > 0),
            _ => false,
        };
        has_enough && !filters.any(|filter| matches!(filter, Filter::TopP { of_all: true, .. }))
    }
}

/// Computes [`sample_rows`](crate::sample_rows()). The program finds the `candidates` largest logits of each row. If
/// these logits determine the token, for example under top-k with a k of at most `candidates`, the host draws from
/// them. Otherwise the host draws from the whole row.
///
/// # Errors
/// The errors of [`program`], the op and the device. The error of a single row is in that row's result.
pub fn run<E: Element>(
    device: &impl Execute,
    logits: Rows<'_, E>,
    mask: Option<&Mask<'_>>,
    candidates: usize,
    requests: &[Request<'_>],
) -> Result<Vec<Result<Sampled>>> {
    let (rows, cols) = (logits.rows(), logits.cols());
    if scores::is_empty(&logits) || requests.len() != rows {
        return crate::sample_rows(logits, mask, requests);
    }
    let program = program(E::DTYPE, rows, cols, candidates, mask)?;
    let operands = Operands::new(OP, &logits, mask, &Logits::of(OP, &options(mask))?)?;
    let inputs = [Some(&execute::rows_to_bytes(logits)[..]), operands.keep.as_deref()];
    let [found, tokens, ties, status] = execute::run(device, &program, &inputs)?;
    let found: Vec<f32> = execute::elements(&found);
    let tokens: Vec<i32> = execute::integers(&tokens).collect();
    let ties = execute::integers(&ties).zip(execute::integers(&status));
    let drawn = ties.zip(requests).enumerate().map(|(row, ((ties, status), request))| {
        let range = row * candidates..(row + 1) * candidates;
        if Status::of(status)? == Status::Plain
            && let Some(sampled) = Candidates::new(&found[range.clone()], &tokens[range], ties, cols)?.draw(*request)?
        {
            return Ok(sampled);
        }
        let (row_mask, whole) = (operands.row(row), Rows::new(logits.row(row), 1, cols)?);
        let drawn = crate::sample_rows(whole, Some(&row_mask), &[*request])?;
        drawn.into_iter().next().unwrap_or(Err(Error::EmptyInput { op: OP })).map_err(|error| error.in_row(row))
    });
    Ok(drawn.collect())
}
