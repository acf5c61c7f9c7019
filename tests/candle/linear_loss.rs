//! Tests of the chunked cross-entropy of a linear layer. For every chunk size, the loss must equal the loss that is
//! computed from all logits at once.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, layouts, tensor, ulp, values};
use allocation_counter::measure;
use candle_core::{DType, Result, Tensor, Var};
use evenkeel::candle::guarded::{self, linear_cross_entropy};
use evenkeel::{CrossEntropy, Reduction, report};

const ROWS: usize = 6;
const FEATURES: usize = 4;
const CLASSES: usize = 11;
const TARGETS: [i64; ROWS] = [4, -100, 2, 10, 0, 7];
const CHUNKS: [Option<usize>; 6] = [Some(1), Some(4), Some(7), Some(CLASSES), Some(CLASSES + 1), None];

fn options() -> Vec<CrossEntropy<'static>> {
    const WEIGHT: [f32; CLASSES] = [0.5, 0.0, 2.0, 1.0, 0.25, 1.0, 1.5, 0.75, 0.0, 3.0, 1.0];
    let plain = CrossEntropy::default();
    let all = [plain, plain.weight(&WEIGHT), plain.weight(&WEIGHT).label_smoothing(0.2).z_loss(0.05).softcap(3.0)];
    let reductions = [Reduction::Mean, Reduction::Sum, Reduction::None];
    all.iter().flat_map(|options| reductions.map(|reduction| options.reduction(reduction))).collect()
}

/// Layer whose logits are exact in every type, whatever the order of the additions.
struct Exact {
    hidden: Var,
    weight: Var,
    bias: Var,
    targets: Tensor,
}

impl Exact {
    fn new(dtype: DType) -> Result<Self> {
        let halves = |dims: &[usize], seed| -> Result<Var> {
            let of = values(dims.iter().product(), 4.0, seed).into_iter().map(|v| v.round() / 2.0);
            Var::from_tensor(&Tensor::from_vec(of.collect::<Vec<f64>>(), dims, CPU)?.to_dtype(dtype)?)
        };
        Ok(Exact {
            hidden: halves(&[ROWS, FEATURES], 1)?,
            weight: halves(&[CLASSES, FEATURES], 2)?,
            bias: halves(&[CLASSES], 3)?,
            targets: Tensor::new(&TARGETS, CPU)?,
        })
    }

    fn logits(&self) -> Result<Tensor> {
        self.hidden.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }

    fn loss(&self, options: &CrossEntropy<'_>, chunk: Option<usize>) -> Result<Tensor> {
        Ok(linear_cross_entropy(&self.hidden, &self.weight, Some(&self.bias), &self.targets, options, chunk)?)
    }
}

#[test]
fn the_bits_of_the_whole_loss() -> Result<()> {
    for (dtype, _) in DTYPES {
        let layer = Exact::new(dtype)?;
        for options in options() {
            let want = guarded::cross_entropy(&layer.logits()?, &layer.targets, &options)?;
            for chunk in CHUNKS {
                assert_same(&format!("{dtype:?}, {options:?} by {chunk:?}"), &layer.loss(&options, chunk)?, &want);
            }
            let want = guarded::cross_entropy(&layer.hidden.matmul(&layer.weight.t()?)?, &layer.targets, &options)?;
            let got = linear_cross_entropy(&layer.hidden, &layer.weight, None, &layer.targets, &options, Some(3))?;
            assert_same(&format!("{dtype:?}, {options:?} without bias"), &got, &want);
        }
    }
    Ok(())
}

/// Compares gradients with a reference. The reference computes the gradient of all logits in one call, and multiplies
/// this gradient by the matrices in f64. The op computes the gradient of the logits chunk by chunk, and gets the same
/// bits.
#[test]
fn gradients() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let layer = Exact::new(dtype)?;
        let wide = |xs: &Tensor| xs.to_dtype(DType::F64);
        // Rounding error of one product or sum.
        let unit = if dtype == DType::F64 { 2f64.powi(-53) } else { 2f64.powi(-24) };
        for options in options() {
            let logits = Var::from_tensor(&layer.logits()?)?;
            let whole = (guarded::cross_entropy(&logits, &layer.targets, &options)?.sum_all()? * 0.75)?.backward()?;
            let dlogits = wide(whole.get(&logits).unwrap())?;
            let (hidden, weight) = (wide(&layer.hidden)?, wide(&layer.weight)?);
            let of = |by: fn(&Tensor) -> Result<Tensor>| -> Result<[Tensor; 3]> {
                let (d, hidden, weight) = (by(&dlogits)?, by(&hidden)?, by(&weight)?);
                Ok([d.matmul(&weight)?, d.t()?.matmul(&hidden)?, d.sum(0)?])
            };
            let (exact, terms) = (of(|xs| Ok(xs.clone()))?, of(Tensor::abs)?);
            for chunk in CHUNKS.into_iter().filter(|chunk| chunk.is_some_and(|chunk| chunk < CLASSES)) {
                let grads = (layer.loss(&options, chunk)?.sum_all()? * 0.75)?.backward()?;
                let variables = [&layer.hidden, &layer.weight, &layer.bias];
                for (i, (variable, count)) in variables.into_iter().zip([CLASSES, ROWS, ROWS]).enumerate() {
                    let got = grads.get(variable).expect("the hidden states, weight and bias must have gradients");
                    assert_eq!((got.dtype(), got.dims()), (dtype, variable.dims()));
                    let (exact, terms) = (flat(&exact[i]), flat(&terms[i]));
                    // The op and the reference round each term and each addition once. The op then rounds its result to
                    // the type.
                    assert_close(
                        &format!("argument {i}, {dtype:?}, {options:?} by {chunk:?}"),
                        &flat(got),
                        &exact,
                        |j| 2.0 * (count + 1) as f64 * unit * terms[j] + 0.5 * ulp(ours, exact[j]),
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn finite_differences() -> Result<()> {
    const STEP: f64 = 1e-5;
    let dims: [&[usize]; 3] = [&[ROWS, FEATURES], &[CLASSES, FEATURES], &[CLASSES]];
    let arguments: Vec<Var> =
        (0..3).map(|i| Var::from_tensor(&tensor(dims[i], DType::F64, 1.5, i as u64)?)).collect::<Result<_>>()?;
    let targets = Tensor::new(&TARGETS, CPU)?;
    let loss = |of: &[Tensor], options: &CrossEntropy<'_>| -> Result<Tensor> {
        Ok(linear_cross_entropy(&of[0], &of[1], Some(&of[2]), &targets, options, Some(3))?)
    };
    for options in options().into_iter().filter(|options| options.reduction != Reduction::None) {
        let tracked: Vec<Tensor> = arguments.iter().map(|argument| argument.as_tensor().clone()).collect();
        let grads = loss(&tracked, &options)?.backward()?;
        for (i, argument) in arguments.iter().enumerate() {
            let at = flat(argument);
            let moved = |j: usize, by: f64| -> Result<f64> {
                let (mut at, mut of) = (at.clone(), tracked.iter().map(Tensor::detach).collect::<Vec<_>>());
                at[j] += by;
                of[i] = Tensor::from_vec(at, dims[i], CPU)?;
                loss(&of, &options)?.to_scalar()
            };
            let difference = |j| Ok((moved(j, STEP)? - moved(j, -STEP)?) / (2.0 * STEP));
            let differences = (0..at.len()).map(difference).collect::<Result<Vec<f64>>>()?;
            // The finite difference has two errors: one is proportional to the third derivative times step^2, the other
            // is the rounding error divided by the step.
            assert_close(
                &format!("argument {i}, {options:?}"),
                &flat(grads.get(argument).unwrap()),
                &differences,
                |_| 1e-8,
            );
        }
    }
    Ok(())
}

/// Checks rows with NaN or infinities. Such a row affects only its own loss. A row with an ignored target has no
/// effect.
#[test]
fn broken_rows() -> Result<()> {
    let each = CrossEntropy::default().reduction(Reduction::None);
    for (dtype, _) in DTYPES {
        let layer = Exact::new(dtype)?;
        let hidden = |row: usize, value: f64| -> Result<Var> {
            let mut values: Vec<Vec<f64>> = layer.hidden.to_dtype(DType::F64)?.to_vec2()?;
            values[row].fill(value);
            Var::from_tensor(&Tensor::new(values, CPU)?.to_dtype(dtype)?)
        };
        let plain = flat(&layer.loss(&each, Some(4))?);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 6e4, -6e4, 1e30] {
            let hidden = hidden(2, value)?;
            let logits = hidden.matmul(&layer.weight.t()?)?.broadcast_add(&layer.bias)?;
            let want = guarded::cross_entropy(&logits, &layer.targets, &each)?;
            for chunk in CHUNKS {
                let loss =
                    linear_cross_entropy(&hidden, &layer.weight, Some(&layer.bias), &layer.targets, &each, chunk)?;
                assert_same(&format!("{value} in {dtype:?} by {chunk:?}"), &loss, &want);
                let loss = flat(&loss);
                assert!(
                    (0..ROWS).all(|row| row == 2 || loss[row].to_bits() == plain[row].to_bits()),
                    "{value} in row 2, {dtype:?}, chunk {chunk:?}: only the loss of row 2 may differ from {plain:?}, \
                     got {loss:?}"
                );
            }
            let loss = linear_cross_entropy(&hidden, &layer.weight, None, &layer.targets, &each, Some(4))?;
            let grads = loss.backward()?;
            let dhidden = flat(&grads.get(&hidden).unwrap().narrow(0, 3, 3)?);
            assert!(
                dhidden.iter().all(|d| d.is_finite()),
                "{value} in row 2, {dtype:?}: expected finite gradients of rows 3 to 5, got {dhidden:?}"
            );
        }
        let mean = CrossEntropy::default();
        let want = layer.loss(&mean, Some(4))?;
        for chunk in CHUNKS {
            let hidden = hidden(1, f64::NAN)?;
            let loss = linear_cross_entropy(&hidden, &layer.weight, Some(&layer.bias), &layer.targets, &mean, chunk)?;
            assert_same("an ignored row", &loss, &want);
            let grads = loss.backward()?;
            for variable in [&hidden, &layer.weight, &layer.bias] {
                let grad = flat(grads.get(variable).unwrap());
                assert!(
                    grad.iter().all(|d| d.is_finite()),
                    "NaN in an ignored row, {dtype:?}, chunk {chunk:?}: expected finite gradients, got {grad:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_layout_and_what_is_met() -> Result<()> {
    let layer = Exact::new(DType::F32)?;
    let (hidden, targets) = (layer.hidden.reshape((2, 3, FEATURES))?, layer.targets.reshape((2, 3))?);
    let options = CrossEntropy::default().reduction(Reduction::None);
    let want = layer.loss(&options, Some(4))?.reshape((2, 3))?;
    for (name, hidden) in layouts(&hidden)? {
        for (other, weight) in layouts(&layer.weight)? {
            let loss = linear_cross_entropy(&hidden, &weight, Some(&layer.bias), &targets, &options, Some(4))?;
            assert_same(&format!("hidden {name}, weight {other}"), &loss, &want);
        }
    }
    let one =
        linear_cross_entropy(&layer.hidden.get(0)?, &layer.weight, None, &Tensor::new(4u32, CPU)?, &options, Some(4))?;
    assert!(one.dims().is_empty());
    let nobody = Tensor::zeros((0, FEATURES), DType::F32, CPU)?;
    let none = Tensor::zeros(0, DType::U32, CPU)?;
    let loss = linear_cross_entropy(&nobody, &layer.weight, None, &none, &CrossEntropy::default(), Some(4))?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    // The report counts each row once per loss, not once per chunk.
    let (loss, report) = report::scope(|| layer.loss(&options, Some(4)).unwrap());
    assert_eq!(report.op("cross_entropy").rows, ROWS as u64);
    let report = report::scope(|| loss.sum_all().unwrap().backward().unwrap()).1;
    assert_eq!(report.op("cross_entropy_backward").rows, ROWS as u64);
    Ok(())
}

#[test]
fn what_is_refused() -> Result<()> {
    let layer = Exact::new(DType::F32)?;
    let plain = CrossEntropy::default();
    let (hidden, weight, bias) = (layer.hidden.as_tensor(), layer.weight.as_tensor(), layer.bias.as_tensor());
    let refused = |hidden: &Tensor, weight: &Tensor, bias: &Tensor, targets: &[i64], chunk: usize| {
        let targets = Tensor::new(targets, CPU).unwrap();
        let error = linear_cross_entropy(hidden, weight, Some(bias), &targets, &plain, Some(chunk)).unwrap_err();
        (error.name(), error.to_string())
    };
    let check = |(name, message): (&str, String), expected: &str, part: &str| {
        assert!(
            name == expected && message.contains(part),
            "expected the error {expected} with {part:?} in its message, got {name}: {message}"
        );
    };
    check(refused(hidden, weight, bias, &TARGETS, 0), "InvalidArgument", "chunk is 0");
    check(refused(hidden, &weight.t()?, bias, &TARGETS, 4), "ShapeMismatch", "hidden has shape [6, 4]");
    check(refused(hidden, &weight.get(0)?, bias, &TARGETS, 4), "ShapeMismatch", "weight has shape [4]");
    check(refused(hidden, weight, &bias.narrow(0, 0, 5)?, &TARGETS, 4), "ShapeMismatch", "bias has shape [5]");
    check(refused(hidden, &weight.to_dtype(DType::F64)?, bias, &TARGETS, 4), "InvalidArgument", "weight is F64");
    check(refused(hidden, weight, &bias.to_dtype(DType::F16)?, &TARGETS, 4), "InvalidArgument", "bias is F16");
    check(refused(hidden, weight, bias, &[0; 5], 4), "ShapeMismatch", "target has shape [5]");
    check(refused(hidden, weight, bias, &[0, 1, 11, 0, 0, 0], 4), "InvalidArgument", "target is 11 in row 2");
    check(refused(&hidden.to_dtype(DType::U32)?, weight, bias, &TARGETS, 4), "UnsupportedDType", "U32");
    Ok(())
}

/// Checks that, for many classes, the loss and its gradients need only a fraction of the memory that the logits would
/// need.
#[test]
fn logits_are_never_all_there() -> Result<()> {
    const MANY: usize = 40_000;
    let hidden = Var::from_tensor(&tensor(&[32, 2], DType::F32, 1.0, 1)?)?;
    let weight = Var::from_tensor(&tensor(&[MANY, 2], DType::F32, 1.0, 2)?)?;
    let targets = Tensor::arange(0u32, 32, CPU)?;
    let memory = measure(|| {
        let options = CrossEntropy::default();
        let loss = linear_cross_entropy(&hidden, &weight, None, &targets, &options, Some(1000)).unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() - (MANY as f32).ln()).abs() < 2.0);
        assert!(loss.backward().unwrap().get(&weight).is_some());
    });
    let logits = 32 * MANY as u64 * 4;
    assert!(
        memory.bytes_max < logits / 4,
        "peak memory of linear_cross_entropy: expected less than a quarter of the {logits} bytes of logits, got {}",
        memory.bytes_max
    );
    Ok(())
}
