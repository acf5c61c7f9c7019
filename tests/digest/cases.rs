//! Cases of the digest: every op, storage type and option, on shapes around the kernels' block sizes.

mod attention;
mod rotations;
mod tensors;

use crate::numbers::{Fill, Numbers};
use attention::attended;
use evenkeel::{
    BceWithLogits, ClampedExp, ClampedLog, CrossEntropy, Draw, Element, Error, FullyMasked, GroupNorm, KlDiv,
    L2Normalize, Lanes, LayerNorm, Loss, Mask, MeanPool, Reduction, Result, RmsNorm, RmsNormLinear, Rounding, Rows,
    SafeDiv, Sampled, SamplerConfig, Softmax, SoftmaxFromOutput, bce_with_logits_backward, cross_entropy_backward,
    group_norm, kl_div_backward, l2_normalize, layer_norm, layer_norm_backward, log_softmax, log_softmax_backward,
    log_softmax_backward_from_output, logsumexp, logsumexp_backward, mean_pool, mean_pool_backward, rms_norm,
    rms_norm_backward, rms_norm_linear, rms_norm_residual, softmax, softmax_backward, softmax_backward_from_output,
};
use half::{bf16, f16};
use rotations::rotations;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use tensors::{axes, statistics, sums, tensors};

type Run = Box<dyn Fn(Range<usize>) -> Vec<u64> + Send + Sync>;

/// Named computation over rows.
pub struct Case {
    pub name: String,
    rows: usize,
    elements: usize,
    run: Run,
}

impl Case {
    /// Returns the bits of all rows computed at once.
    pub fn whole(&self) -> Vec<u64> {
        (self.run)(0..self.rows)
    }

    /// Returns the bits of all rows, computed in several calls: one call for each of the first three and last two rows,
    /// and one for the rows between them.
    pub fn in_parts(&self) -> Vec<u64> {
        let bounds: Vec<usize> = (0..=self.rows).filter(|at| *at <= 3 || at + 2 >= self.rows).collect();
        bounds.windows(2).flat_map(|bounds| (self.run)(bounds[0]..bounds[1])).collect()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns whether the case is large enough to be distributed over threads.
    pub fn is_large(&self) -> bool {
        self.elements >= 1 << 16
    }
}

struct RowRange<'a, E> {
    data: &'a [E],
    range: Range<usize>,
    cols: usize,
}

impl<'a, E: Element> RowRange<'a, E> {
    fn rows(&self) -> Rows<'a, E> {
        Rows::new(self.data, self.range.len(), self.cols).unwrap()
    }

    /// Returns the elements of these rows from `whole`, which has the shape of the batch.
    fn of<'b, T>(&self, whole: &'b [T]) -> &'b [T] {
        &whole[self.range.start * self.cols..self.range.end * self.cols]
    }
}

/// Rows of a batch, and the list to which its cases are added. A case can compute any range of the rows.
struct Batch<'a, E> {
    cases: &'a mut Vec<Case>,
    label: String,
    x: Vec<E>,
    rows: usize,
    cols: usize,
}

impl<E: Element> Batch<'_, E> {
    fn add(&mut self, op: &str, f: impl Fn(&RowRange<'_, E>) -> Result<Vec<E>> + Send + Sync + 'static) {
        self.add_words(op, move |part| f(part).unwrap().into_iter().map(E::bits).collect());
    }

    /// Adds a case that computes all rows together.
    fn add_whole(&mut self, op: &str, f: impl Fn() -> Vec<E> + Send + Sync + 'static) {
        let (rows, cols) = (self.rows, self.cols);
        let name = format!("{op} {} {} {rows}x{cols}", E::DTYPE, self.label);
        let run = move |_| f().into_iter().map(E::bits).collect();
        self.cases.push(Case { name, rows: 1, elements: rows * cols, run: Box::new(run) });
    }

    fn add_words(&mut self, op: &str, f: impl Fn(&RowRange<'_, E>) -> Vec<u64> + Send + Sync + 'static) {
        let (x, rows, cols) = (self.x.clone(), self.rows, self.cols);
        let run =
            move |range: Range<usize>| f(&RowRange { data: &x[range.start * cols..range.end * cols], range, cols });
        let name = format!("{op} {} {} {rows}x{cols}", E::DTYPE, self.label);
        self.cases.push(Case { name, rows, elements: rows * cols, run: Box::new(run) });
    }
}

/// Shapes with row lengths around 16, 256 and 4,096, where a kernel's loops begin another iteration.
const SHAPES: [(usize, usize); 8] = [(2, 1), (3, 5), (4, 16), (2, 63), (3, 256), (2, 1000), (1, 5000), (70, 1024)];

/// All cases. The tests share them, because their inputs take long to generate.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = Vec::new();
    of_dtype::<f64>(&mut cases);
    of_dtype::<f32>(&mut cases);
    of_dtype::<f16>(&mut cases);
    of_dtype::<bf16>(&mut cases);
    sums(&mut cases);
    cases
});

fn of_dtype<E: Element>(cases: &mut Vec<Case>) {
    for (rows, cols) in SHAPES {
        for fill in Fill::ALL {
            let label = format!("{fill:?}").to_lowercase();
            let x = Numbers::of(&format!("{label} {rows} {cols}")).rows::<E>(fill, rows, cols);
            let mut batch = Batch { cases, label, x, rows, cols };
            elementwise(&mut batch);
            pairs(&mut batch);
            softmaxes(&mut batch);
            softmax_gradients(&mut batch);
            losses(&mut batch);
            norms(&mut batch);
            norm_gradients(&mut batch);
            if cols % 2 == 0 {
                rotations(&mut batch);
            }
            samplers(&mut batch);
            attended(&mut batch);
            batch.add_words("inspect", |part| part.data.chunks(part.cols).flat_map(statistics).collect());
        }
    }
    for shape in [[2, 5, 3], [1, 64, 17], [3, 300, 20]] {
        axes::<E>(cases, shape);
    }
    for len in [0, 300, 150_000] {
        tensors::<E>(cases, len);
    }
}

type Pair<E> = fn(&[E], &[E]) -> Result<Vec<E>>;

macro_rules! functions {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$backward:ident $($form:ident)*];)*) => {
        /// Adds a case for each elementwise function.
        fn functions<E: Element>(batch: &mut Batch<'_, E>) {
            $(batch.add(stringify!($name), |part| evenkeel::$name(part.data));)*
        }

        /// Returns the gradients of the elementwise functions, with their names.
        fn gradients<E: Element>() -> Vec<(&'static str, Pair<E>)> {
            vec![$((stringify!($backward), evenkeel::$backward),)*]
        }
    };
}
evenkeel::for_each_elementwise!(functions);

fn elementwise<E: Element>(batch: &mut Batch<'_, E>) {
    functions(batch);
    batch.add("clamped_exp", |part| evenkeel::clamped_exp(part.data, &ClampedExp::default()));
    batch.add("clamped_exp/range", |part| evenkeel::clamped_exp(part.data, &ClampedExp::default().min(-1.1).max(2.3)));
    batch.add("clamped_log", |part| evenkeel::clamped_log(part.data, &ClampedLog::default()));
    batch.add("clamped_log/floor", |part| evenkeel::clamped_log(part.data, &ClampedLog::default().floor(0.7)));
}

/// Adds ops on two tensors: gradients, and pairwise ops.
fn pairs<E: Element>(batch: &mut Batch<'_, E>) {
    let mut ops = gradients::<E>();
    ops.extend::<[(&str, Pair<E>); 6]>([
        ("clamped_exp_backward", |x, dy| evenkeel::clamped_exp_backward(x, dy, &ClampedExp::default())),
        ("clamped_log_backward", |x, dy| evenkeel::clamped_log_backward(x, dy, &ClampedLog::default())),
        ("log_add_exp", evenkeel::log_add_exp),
        ("swiglu", evenkeel::swiglu),
        ("swiglu_backward", |x, dy| {
            // The two gradients of an element are adjacent in the list, so the results of a range of rows are a slice
            // of the list.
            let (dgate, dup) = evenkeel::swiglu_backward(x, dy, x)?;
            Ok(dgate.into_iter().zip(dup).flat_map(|(dgate, dup)| [dgate, dup]).collect())
        }),
        ("safe_div", |x, d| evenkeel::safe_div(x, d, &SafeDiv::default())),
    ]);
    let dy = Numbers::of("pairs").rows::<E>(Fill::Plain, batch.rows, batch.cols);
    for (name, op) in ops {
        let dy = dy.clone();
        batch.add(name, move |part| op(part.data, part.of(&dy)));
    }
}

fn softmaxes<E: Element>(batch: &mut Batch<'_, E>) {
    batch.add("softmax", |part| softmax(part.rows(), &Softmax::default()));
    batch.add("log_softmax", |part| log_softmax(part.rows(), &Softmax::default()));
    batch.add("logsumexp", |part| logsumexp(part.rows(), &Softmax::default()));

    let (rows, cols) = (batch.rows, batch.cols);
    let mut numbers = Numbers::of("masks");
    let keep: Vec<bool> = (0..rows * cols).map(|_| numbers.flag()).collect();
    let bias = numbers.rows::<f32>(Fill::Plain, rows, cols);
    // Each row is a query. `position` returns the position of the first query in a range of rows. A row has the same
    // position alone and in the batch.
    let position = move |part: &RowRange<'_, E>| cols as isize - rows as isize + part.range.start as isize;
    let (flags, biases) = (keep.clone(), bias.clone());
    batch.add("softmax/attention", move |part| {
        let shape = [part.range.len(), cols];
        let options = Softmax::default().scale(0.37);
        let scaled = softmax(part.rows(), &options)?;
        let kept = softmax(part.rows(), &options.mask(&Mask::keep(part.of(&flags), &shape)))?;
        let biased = softmax(part.rows(), &options.mask(&Mask::bias(part.of(&biases), &shape)))?;
        let both = Mask::keep(part.of(&flags), &shape).and_bias(part.of(&biases), &shape);
        // Results are listed row by row, so that the results of a range of rows are a slice of the whole list.
        let all = [scaled, kept, biased, softmax(part.rows(), &options.mask(&both))?];
        Ok((0..shape[0]).flat_map(|row| all.each_ref().map(|y| y[row * cols..][..cols].to_vec()).concat()).collect())
    });
    batch.add("softmax/masked", move |part| {
        let shape = [part.range.len(), cols];
        let mask = Mask::keep(part.of(&keep), &shape).and_bias(part.of(&bias), &shape);
        let mask = mask.and_causal().offset(position(part));
        let options = Softmax::default().mask(&mask).scale(0.37).softcap(25.0).fully_masked(FullyMasked::Uniform);
        softmax(part.rows(), &options)
    });
    batch.add("log_softmax/causal", move |part| {
        let mask = Mask::causal().offset(position(part));
        log_softmax(part.rows(), &Softmax::default().mask(&mask).scale(0.125))
    });
    batch.add("logsumexp/window", move |part| {
        let mask = Mask::window(7).offset(position(part));
        logsumexp(part.rows(), &Softmax::default().mask(&mask))
    });
}

/// Adds the gradients of the softmax family, with and without a mask.
fn softmax_gradients<E: Element>(batch: &mut Batch<'_, E>) {
    let (rows, cols) = (batch.rows, batch.cols);
    let mut numbers = Numbers::of("gradients");
    let dy = numbers.rows::<E>(Fill::Plain, rows, cols);
    let keep: Vec<bool> = (0..rows * cols).map(|_| numbers.flag()).collect();
    let position = move |part: &RowRange<'_, E>| cols as isize - rows as isize + part.range.start as isize;
    let given = dy.clone();
    let grads = move |part: &RowRange<'_, E>| given[part.range.start * cols..part.range.end * cols].to_vec();
    let of = grads.clone();
    batch.add("softmax_backward", move |part| {
        softmax_backward(part.rows(), Rows::new(&of(part), part.range.len(), cols)?, &Softmax::default())
    });
    let of = grads.clone();
    batch.add("softmax_backward/masked", move |part| {
        let mask = Mask::keep(part.of(&keep), &[part.range.len(), cols]).and_causal().offset(position(part));
        let options = Softmax::default().mask(&mask).scale(0.37).softcap(25.0).fully_masked(FullyMasked::Uniform);
        softmax_backward(part.rows(), Rows::new(&of(part), part.range.len(), cols)?, &options)
    });
    let of = grads.clone();
    batch.add("log_softmax_backward", move |part| {
        log_softmax_backward(part.rows(), Rows::new(&of(part), part.range.len(), cols)?, &Softmax::default())
    });
    let of = grads.clone();
    batch.add("log_softmax_backward/window", move |part| {
        let mask = Mask::window(7).offset(position(part));
        let options = Softmax::default().mask(&mask).scale(0.125);
        log_softmax_backward(part.rows(), Rows::new(&of(part), part.range.len(), cols)?, &options)
    });
    let of = grads.clone();
    batch.add("softmax_backward_from_output", move |part| {
        let (rows, dy) = (part.range.len(), of(part));
        let y = softmax(part.rows(), &Softmax::default())?;
        let [y, dy] = [Rows::new(&y, rows, cols)?, Rows::new(&dy, rows, cols)?];
        softmax_backward_from_output(y, dy, &SoftmaxFromOutput::default())
    });
    // These rows are not probabilities. The kernels of 16-bit types therefore compute some of the rows in f64.
    let of = grads.clone();
    batch.add("softmax_backward_from_output/scaled", move |part| {
        let dy = of(part);
        let options = SoftmaxFromOutput::default().scale(-1.37);
        softmax_backward_from_output(part.rows(), Rows::new(&dy, part.range.len(), cols)?, &options)
    });
    let of = grads.clone();
    batch.add("log_softmax_backward_from_output", move |part| {
        let (rows, dy) = (part.range.len(), of(part));
        let y = log_softmax(part.rows(), &Softmax::default())?;
        let [y, dy] = [Rows::new(&y, rows, cols)?, Rows::new(&dy, rows, cols)?];
        log_softmax_backward_from_output(y, dy, &SoftmaxFromOutput::default())
    });
    batch.add("log_softmax_backward_from_output/scaled", move |part| {
        let dy = grads(part);
        let options = SoftmaxFromOutput::default().scale(-1.37);
        log_softmax_backward_from_output(part.rows(), Rows::new(&dy, part.range.len(), cols)?, &options)
    });
    let given = dy.clone();
    batch.add("logsumexp_backward", move |part| {
        logsumexp_backward(part.rows(), &given[part.range.clone()], &Softmax::default())
    });
    batch.add("logsumexp_backward/capped", move |part| {
        let mask = Mask::causal().offset(position(part));
        logsumexp_backward(part.rows(), &dy[part.range.clone()], &Softmax::default().mask(&mask).softcap(9.0))
    });
}

fn losses<E: Element>(batch: &mut Batch<'_, E>) {
    let (rows, cols) = (batch.rows, batch.cols);
    let mut numbers = Numbers::of("losses");
    let weight: Vec<f32> = numbers.rows::<f32>(Fill::Plain, 1, cols).into_iter().map(f32::abs).collect();
    let targets: Vec<i64> = (0..rows).map(|r| if r % 5 == 3 { -100 } else { (r * 7 % cols) as i64 }).collect();
    for capped in [false, true] {
        let (weight, targets) = (weight.clone(), targets.clone());
        let run = move |part: &RowRange<'_, E>| {
            let options = CrossEntropy::default().reduction(Reduction::None);
            let options = match capped {
                false => options,
                true => options.weight(&weight).label_smoothing(0.125).z_loss(1e-4).softcap(30.0),
            };
            let dloss = vec![0.75; part.range.len()];
            cross_entropy_backward(part.rows(), &targets[part.range.clone()], &dloss, &options).unwrap()
        };
        let same = run.clone();
        let name = |op: &str| format!("{op}{}", if capped { "/options" } else { "" });
        batch.add_words(&name("cross_entropy"), move |part| {
            run(part).0.as_slice().iter().map(|v| v.to_bits()).collect()
        });
        batch.add(&name("cross_entropy_backward"), move |part| Ok(same(part).1));
    }
    let shares: Vec<f64> = (0..rows * cols).map(|i| (i * 7 % 9) as f64 / 8.0).collect();
    let of =
        move |part: &RowRange<'_, E>, shares: &[f64]| shares[part.range.start * cols..part.range.end * cols].to_vec();
    // The bits of the results are listed row by row, so that a row alone gives the same list as in a batch.
    let words = move |rows: usize, loss: &Loss, dx: &[E]| -> Vec<u64> {
        let losses = loss.as_slice().chunks(loss.as_slice().len() / rows.max(1));
        let row = |(losses, dx): (&[f64], &[E])| -> Vec<u64> {
            losses.iter().map(|v| v.to_bits()).chain(dx.iter().map(|v| v.bits())).collect()
        };
        losses.zip(dx.chunks(cols)).flat_map(row).collect()
    };
    let given = shares.clone();
    for (name, gamma) in [("bce_with_logits", 0.0), ("bce_with_logits/focal", 2.0)] {
        let (given, weight) = (given.clone(), weight.clone());
        batch.add_words(name, move |part| {
            let targets = of(part, &given);
            let options = BceWithLogits::default().pos_weight(&weight).focal_gamma(gamma).reduction(Reduction::None);
            let dloss = vec![0.75; targets.len()];
            let (loss, dx) = bce_with_logits_backward(part.rows(), &targets, &dloss, &options).unwrap();
            words(part.range.len(), &loss, &dx)
        });
    }
    batch.add_words("kl_div", move |part| {
        let (targets, dloss) = (of(part, &shares), vec![0.75; part.range.len()]);
        let options = KlDiv::default().scale(0.7).reduction(Reduction::None);
        let (loss, dx) = kl_div_backward(part.rows(), &targets, &dloss, &options).unwrap();
        words(part.range.len(), &loss, &dx)
    });
}

fn norms<E: Element>(batch: &mut Batch<'_, E>) {
    let cols = batch.cols;
    let mut numbers = Numbers::of("weights");
    let weight = numbers.rows::<E>(Fill::Plain, 1, cols);
    let bias = numbers.rows::<f32>(Fill::Plain, 1, cols);
    let residual = numbers.rows::<E>(Fill::Plain, batch.rows, cols);
    batch.add("rms_norm", |part| rms_norm(part.rows(), &RmsNorm::default()));
    let w = weight.clone();
    batch.add("rms_norm/before_weight", move |part| {
        let options = RmsNorm::default().weight(&w).weight_offset(1.0).rounding(Rounding::BeforeWeight);
        rms_norm(part.rows(), &options)
    });
    let w = weight.clone();
    let with_residual = move |part: &RowRange<'_, E>| {
        let residual = Rows::new(part.of(&residual), part.range.len(), cols)?;
        rms_norm_residual(part.rows(), residual, &RmsNorm::default().weight(&w).eps(1e-5))
    };
    let same = with_residual.clone();
    batch.add("rms_norm/of_sum", move |part| Ok(with_residual(part)?.0));
    batch.add("rms_norm/sum", move |part| Ok(same(part)?.1));
    batch.add("l2_normalize", |part| l2_normalize(part.rows(), &L2Normalize::default()));
    // Each sequence has as many tokens as there are columns.
    batch.add("mean_pool", |part| {
        mean_pool(Lanes::shaped(part.data, &[part.range.len(), part.cols, 1], 1)?, &MeanPool::default())
    });
    batch.add("mean_pool_backward", |part| {
        let dy: Vec<E> = part.data.chunks(part.cols).map(|row| row[0]).collect();
        let lengths = [part.cols.div_ceil(2)];
        let mask = Mask::lengths(&lengths);
        mean_pool_backward(&dy, [dy.len(), part.cols, 1], &MeanPool::default().mask(&mask))
    });
    batch.add("group_norm", |part| group_norm(part.rows(), &GroupNorm::new(1)));
    let (matrix, of_norm) = (Numbers::of("matrix").rows::<E>(Fill::Plain, 3, cols), weight.clone());
    batch.add("rms_norm_linear", move |part| {
        let norm = RmsNorm::default().weight(&*of_norm).weight_offset(1.0);
        let options = RmsNormLinear::default().norm(norm).bias(&[0.5f32, -1.0, 3.0]);
        rms_norm_linear(part.rows(), Rows::new(&matrix, 3, part.cols)?, &options)
    });
    batch.add("layer_norm", |part| layer_norm(part.rows(), &LayerNorm::default()));
    batch.add("layer_norm/weighted", move |part| {
        layer_norm(part.rows(), &LayerNorm::default().weight(&weight).bias(&bias))
    });
}

/// Adds the gradients of norms: dx for any range of rows, dweight and dbias for all rows together.
fn norm_gradients<E: Element>(batch: &mut Batch<'_, E>) {
    let (rows, cols) = (batch.rows, batch.cols);
    let mut numbers = Numbers::of("gradients");
    let dy = Arc::new(numbers.rows::<E>(Fill::Plain, rows, cols));
    let weight = Arc::new(numbers.rows::<E>(Fill::Plain, 1, cols));
    let x = Arc::new(batch.x.clone());
    fn view<E: Element>(data: &[E], cols: usize) -> Rows<'_, E> {
        Rows::new(data, data.len() / cols, cols).unwrap()
    }

    let (all, w) = (dy.clone(), weight.clone());
    batch.add("rms_norm_backward", move |part| {
        let dy = Rows::new(part.of(&all), part.range.len(), cols)?;
        Ok(rms_norm_backward(part.rows(), dy, &RmsNorm::default().weight(&*w).weight_offset(1.0))?.dx)
    });
    let (all, w) = (dy.clone(), weight.clone());
    batch.add("layer_norm_backward", move |part| {
        let dy = Rows::new(part.of(&all), part.range.len(), cols)?;
        Ok(layer_norm_backward(part.rows(), dy, &LayerNorm::default().weight(&*w))?.dx)
    });
    let (rows_of_x, all, w) = (x.clone(), dy.clone(), weight.clone());
    batch.add_whole("rms_norm_backward/dweight", move || {
        let options = RmsNorm::default().weight(&*w).rounding(Rounding::BeforeWeight);
        rms_norm_backward(view(&rows_of_x, cols), view(&all, cols), &options).unwrap().dweight.unwrap()
    });
    batch.add_whole("layer_norm_backward/dweight_dbias", move || {
        let options = LayerNorm::default().weight(&*weight).bias(&*weight);
        let gradients = layer_norm_backward(view(&x, cols), view(&dy, cols), &options).unwrap();
        [gradients.dweight.unwrap(), gradients.dbias.unwrap()].concat()
    });
}

fn samplers<E: Element>(batch: &mut Batch<'_, E>) {
    let chat = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).min_p(0.02);
    let plain = SamplerConfig::default();
    for (name, config) in [
        ("sample", plain),
        ("sample/chat", chat),
        ("sample/mirostat_1", plain.mirostat(1, 3.0, 0.1)),
        ("sample/mirostat_2", plain.mirostat(2, 3.0, 0.1)),
        ("sample/adaptive_p", plain.adaptive_p(0.3, 0.9)),
    ] {
        let sampler = config.validate().unwrap();
        batch.add_words(name, move |part| {
            let draws: Vec<Draw> = part.range.clone().map(|row| Draw { seed: 11, row: row as u64, draw: 3 }).collect();
            let words = |sampled| match sampled {
                Ok(Sampled { token, logprob, kept, .. }) => vec![u64::from(token), logprob.to_bits(), kept as u64],
                Err(refused) => vec![crate::fnv([Error::name(&refused)])],
            };
            sampler.sample_rows(part.rows(), None, &draws).unwrap().into_iter().flat_map(words).collect()
        });
    }
}
