//! Compares losses with the slice functions, candle's losses and the composition.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, layouts, tensor, values};
use candle_core::{DType, Result, Tensor, Var};
use evenkeel::candle as ours;
use evenkeel::candle::{composition, guarded};
use evenkeel::{
    BceWithLogits, CrossEntropy, Error, KlDiv, Reduction, Rows, bce_with_logits_backward, cross_entropy,
    cross_entropy_backward, kl_div_backward, report,
};

const WEIGHT: [f32; 5] = [0.5, 0.0, 2.0, 1.0, 0.25];
const TARGETS: [i64; 6] = [4, -100, 2, 1, 0, 3];

fn options() -> [CrossEntropy<'static>; 3] {
    let plain = CrossEntropy::default();
    [plain, plain.weight(&WEIGHT), plain.weight(&WEIGHT).label_smoothing(0.2).z_loss(0.05).softcap(3.0)]
}

fn targets(dims: &[usize]) -> Result<Tensor> {
    Tensor::new(&TARGETS, CPU)?.reshape(dims)
}

#[test]
fn the_slice_functions_in_every_layout() -> Result<()> {
    for (dtype, _) in DTYPES {
        let x = tensor(&[2, 3, 5], dtype, 4.0, 1)?;
        let wide: Vec<f64> = flat(&x);
        for options in options() {
            for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
                let options = options.reduction(reduction);
                let count = if reduction == Reduction::None { 6 } else { 1 };
                let dloss = vec![0.5; count];
                // The reference uses the same logits in f64, so the losses differ only by the rounding of exponentials.
                let exact = cross_entropy(Rows::new(&wide, 6, 5)?, &TARGETS, &options)?;
                let (_, dx) = cross_entropy_backward(Rows::new(&wide, 6, 5)?, &TARGETS, &dloss, &options)?;
                let first = guarded::cross_entropy(&x, &targets(&[2, 3])?, &options)?;
                let dims: &[usize] = if reduction == Reduction::None { &[2, 3] } else { &[] };
                let kind = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
                assert_eq!((first.dims(), first.dtype()), (dims, kind));
                assert_close("loss", &flat(&first), exact.as_slice(), |i| 1e-6 * exact.as_slice()[i]);
                for (layout, x) in layouts(&x)? {
                    let x = Var::from_tensor(&x)?;
                    let loss = guarded::cross_entropy(&x, &targets(&[2, 3])?, &options)?;
                    assert_same(&layout, &loss, &first);
                    let grads = (loss * 0.5)?.sum_all()?.backward()?;
                    let got = grads.get(&x).expect("the logits must have a gradient");
                    assert_eq!((got.dims(), got.dtype()), (x.dims(), dtype));
                    let unit = if dtype == DType::F64 { 1e-15 } else { dtype_unit(dtype) };
                    assert_close(&layout, &flat(got), &dx, |i| unit * dx[i].abs().max(0.1));
                }
            }
        }
    }
    Ok(())
}

fn dtype_unit(dtype: DType) -> f64 {
    DTYPES.iter().find(|(candle, _)| *candle == dtype).map_or(0.0, |(_, ours)| ours.limits().epsilon)
}

/// Checks that gradients flow through non-contiguous views.
#[test]
fn through_a_transposition() -> Result<()> {
    let turned = Var::from_tensor(&tensor(&[5, 6], DType::F32, 3.0, 2)?)?;
    let loss = guarded::cross_entropy(&turned.t()?, &targets(&[6])?, &CrossEntropy::default())?;
    let again = guarded::cross_entropy(&turned.t()?.contiguous()?, &targets(&[6])?, &CrossEntropy::default())?;
    let both = (loss + again)?.backward()?;
    let x = flat(&turned.t()?.contiguous()?).into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let (_, dx) = cross_entropy_backward(Rows::new(&x, 6, 5)?, &TARGETS, &[2.0], &CrossEntropy::default())?;
    let got = both.get(&turned).expect("the logits must have a gradient").t()?.contiguous()?;
    let dx: Vec<f64> = dx.into_iter().map(f64::from).collect();
    assert_close("both", &flat(&got), &dx, |_| 1e-7);
    Ok(())
}

#[test]
fn the_composition() -> Result<()> {
    for (dtype, _) in DTYPES {
        let x = tensor(&[6, 5], dtype, 4.0, 1)?;
        for options in options() {
            for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
                let options = options.reduction(reduction);
                let want = guarded::cross_entropy(&x, &targets(&[6])?, &options)?;
                let got = composition::cross_entropy(&x, &targets(&[6])?, &options)?;
                assert_eq!((got.dims(), got.dtype()), (want.dims(), want.dtype()));
                let want = flat(&want);
                assert_close("composition", &flat(&got), &want, |i| 1e-6 * want[i].abs().max(1.0));
            }
        }
        let ignored = Tensor::full(f64::NAN, (2, 5), CPU)?.to_dtype(dtype)?;
        let none = Tensor::new(&[-100i64, -100], CPU)?;
        for options in options() {
            assert_eq!(flat(&composition::cross_entropy(&ignored, &none, &options)?), [0.0]);
            assert_eq!(flat(&guarded::cross_entropy(&ignored, &none, &options)?), [0.0]);
            let empty = ignored.narrow(0, 0, 0)?;
            let nobody = none.narrow(0, 0, 0)?;
            assert_eq!(flat(&composition::cross_entropy(&empty, &nobody, &options)?), [0.0]);
            assert_eq!(flat(&guarded::cross_entropy(&empty, &nobody, &options)?), [0.0]);
        }
        // A row with NaN or +inf has a loss of NaN, even if the weights of all targets are 0.
        for spoilt in [f64::NAN, f64::INFINITY] {
            let logits = Tensor::new(&[[spoilt, 0.0, 1.0], [0.0, 1.0, 2.0]], CPU)?.to_dtype(dtype)?;
            for (reduction, expected) in
                [(Reduction::None, &[true, false][..]), (Reduction::Mean, &[true]), (Reduction::Sum, &[true])]
            {
                let options = CrossEntropy::default().weight(&[0.0, 0.0, 1.0]).reduction(reduction);
                let classes = Tensor::new(&[0u32, 1], CPU)?;
                for loss in [
                    composition::cross_entropy(&logits, &classes, &options)?,
                    guarded::cross_entropy(&logits, &classes, &options)?,
                ] {
                    let are_nan: Vec<bool> = flat(&loss).into_iter().map(f64::is_nan).collect();
                    assert_eq!(are_nan, expected, "cross_entropy of a row with {spoilt}, {dtype:?}, {reduction:?}");
                }
            }
        }
        // Class 1 is masked in both rows. Only the second row has class 1 as its target.
        let inf = f64::INFINITY;
        let masked = Tensor::new(&[[0.0, -inf, 0.0], [0.0, -inf, 0.0]], CPU)?.to_dtype(dtype)?;
        let options = CrossEntropy::default().reduction(Reduction::None);
        for loss in [composition::cross_entropy, |x: &Tensor, t: &Tensor, o: &CrossEntropy<'_>| {
            Ok(guarded::cross_entropy(x, t, o)?)
        }] {
            let losses = flat(&loss(&masked, &Tensor::new(&[0u32, 1], CPU)?, &options)?);
            assert!(
                (losses[0] - 2f64.ln()).abs() < 1e-6 && losses[1] == inf,
                "cross_entropy with class 1 masked, {dtype:?}: expected losses of ln 2 and infinity, got {losses:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn targets_of_every_type_and_what_is_refused() -> Result<()> {
    let x = tensor(&[3, 5], DType::F32, 2.0, 3)?;
    let plain = CrossEntropy::default();
    let want = guarded::cross_entropy(&x, &Tensor::new(&[4i64, 0, 2], CPU)?, &plain)?;
    for dtype in [DType::U8, DType::U32, DType::I64] {
        let targets = Tensor::new(&[4u32, 0, 2], CPU)?.to_dtype(dtype)?;
        assert_same("targets", &guarded::cross_entropy(&x, &targets, &plain)?, &want);
        assert_same("drop-in", &ours::loss::cross_entropy(&x, &targets)?, &want);
    }
    let refused = |x: &Tensor, targets: &Tensor| guarded::cross_entropy(x, targets, &plain).unwrap_err();
    let out = refused(&x, &Tensor::new(&[0i64, 5, 9], CPU)?);
    assert_eq!((out.name(), out.row()), ("InvalidArgument", Some(1)));
    assert_eq!(refused(&x, &Tensor::new(&[0i64, 1], CPU)?).name(), "ShapeMismatch");
    assert_eq!(refused(&x, &Tensor::new(&[[0i64, 1, 2]], CPU)?).name(), "ShapeMismatch");
    assert_eq!(refused(&x, &Tensor::new(&[0f32, 1., 2.], CPU)?).name(), "UnsupportedDType");
    assert_eq!(refused(&Tensor::new(1f32, CPU)?, &Tensor::new(0i64, CPU)?).name(), "ShapeMismatch");
    let outside = composition::cross_entropy(&x, &Tensor::new(&[0i64, 5, 9], CPU)?, &plain).unwrap_err();
    assert_eq!(Error::from(outside).row(), Some(1));
    // The logits are one row, without a row axis.
    let one = guarded::cross_entropy(&x.get(0)?, &Tensor::new(4i64, CPU)?, &plain.reduction(Reduction::None))?;
    assert!(one.dims().is_empty());
    let report = report::scope(|| guarded::cross_entropy(&x, &Tensor::new(&[4i64, 0, 2], CPU)?, &plain)).1;
    assert_eq!(report.op("cross_entropy").rows, 3);
    Ok(())
}

/// Compares the loss and the gradient of the drop-in function with candle's. Also checks that the drop-in function
/// rejects invalid targets.
#[test]
fn candles_meaning() -> Result<()> {
    let x = Var::from_tensor(&Tensor::from_vec(values(15, 3.0, 5), (3, 5), CPU)?)?;
    for targets in [[4u32, 0, 2], [4, u32::MAX, 2]] {
        let targets = Tensor::new(&targets, CPU)?;
        let (got, want) = (ours::loss::cross_entropy(&x, &targets)?, candle_nn::loss::cross_entropy(&x, &targets)?);
        assert_close("loss", &flat(&got), &flat(&want), |_| 1e-14);
        let (got, want) = (got.backward()?, want.backward()?);
        let of =
            |grads: &candle_core::backprop::GradStore| flat(grads.get(&x).expect("the logits must have a gradient"));
        if targets.max(0)?.to_scalar::<u32>()? < 5 {
            assert_close("gradient", &of(&got), &of(&want), |_| 1e-14);
        }
    }
    assert!(ours::loss::cross_entropy(&x, &Tensor::new(&[0i64, -100, 1], CPU)?).is_err());
    assert!(ours::loss::cross_entropy(&x, &Tensor::new(&[0u32, 5, 1], CPU)?).is_err());
    Ok(())
}

/// Name of a loss, and three functions that compute it: on tensors, as a composition of candle's ops, and on slices.
/// The function on slices also returns the gradient.
type Beside<'a> = (
    &'a str,
    Box<dyn Fn(&Tensor, &Tensor) -> evenkeel::Result<Tensor> + 'a>,
    Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + 'a>,
    Box<dyn Fn(&[f64], &[f64], &[f64]) -> (Vec<f64>, Vec<f64>) + 'a>,
);

#[test]
fn losses_beside_targets() -> Result<()> {
    let weight: Vec<f64> = (0..30).map(|i| f64::from(i % 4)).collect();
    let y = tensor(&[2, 3, 5], DType::F32, 0.5, 2)?.affine(1.0, 0.5)?;
    let y_wide = flat(&y);
    for (dtype, _) in DTYPES {
        let x = tensor(&[2, 3, 5], dtype, 4.0, 1)?;
        let wide = flat(&x);
        for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
            let bce = BceWithLogits::default().reduction(reduction).weight(&weight).pos_weight(&WEIGHT);
            let kl = KlDiv::default().reduction(reduction).scale(0.5);
            let of_logs = KlDiv::default().reduction(reduction).log_probs(true);
            let focal = bce.focal_gamma(2.0).alpha(0.25);
            let cases: [Beside<'_>; 4] = [
                (
                    "bce_with_logits",
                    Box::new(move |x, y| guarded::bce_with_logits(x, y, &bce)),
                    Box::new(move |x, y| composition::bce_with_logits(x, y, &bce)),
                    Box::new(move |x, y, dloss| {
                        let (loss, dx) = bce_with_logits_backward(Rows::new(x, 6, 5).unwrap(), y, dloss, &bce).unwrap();
                        (loss.as_slice().to_vec(), dx)
                    }),
                ),
                (
                    "focal loss",
                    Box::new(move |x, y| guarded::bce_with_logits(x, y, &focal)),
                    Box::new(move |x, y| composition::bce_with_logits(x, y, &focal)),
                    Box::new(move |x, y, dloss| {
                        let rows = Rows::new(x, 6, 5).unwrap();
                        let (loss, dx) = bce_with_logits_backward(rows, y, dloss, &focal).unwrap();
                        (loss.as_slice().to_vec(), dx)
                    }),
                ),
                (
                    "kl_div",
                    Box::new(move |x, y| guarded::kl_div(x, y, &kl)),
                    Box::new(move |x, y| composition::kl_div(x, y, &kl)),
                    Box::new(move |x, y, dloss| {
                        let (loss, dx) = kl_div_backward(Rows::new(x, 6, 5).unwrap(), y, dloss, &kl).unwrap();
                        (loss.as_slice().to_vec(), dx)
                    }),
                ),
                (
                    "kl_div of log-probabilities",
                    Box::new(move |x, y| guarded::kl_div(x, y, &of_logs)),
                    Box::new(move |x, y| composition::kl_div(x, y, &of_logs)),
                    Box::new(move |x, y, dloss| {
                        let (loss, dx) = kl_div_backward(Rows::new(x, 6, 5).unwrap(), y, dloss, &of_logs).unwrap();
                        (loss.as_slice().to_vec(), dx)
                    }),
                ),
            ];
            for (name, on_tensors, composed, on_slices) in cases {
                let dims: &[usize] = match (reduction, name) {
                    (Reduction::None, "kl_div") => &[2, 3],
                    (Reduction::None, _) => &[2, 3, 5],
                    _ => &[],
                };
                let count = dims.iter().product();
                let (want, dx) = on_slices(&wide, &y_wide, &vec![0.5; count]);
                // The loss is rounded once to f32, unless the logits are f64.
                let unit = if dtype == DType::F64 { 1e-15 } else { 1.2e-7 };
                let kind = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
                for (layout, x) in layouts(&x)? {
                    let x = Var::from_tensor(&x)?;
                    let loss = on_tensors(&x, &y)?;
                    assert_eq!(
                        (loss.dims(), loss.dtype()),
                        (dims, kind),
                        "{name}: the loss must have the shape {dims:?} and the type {kind:?}"
                    );
                    assert_close(name, &flat(&loss), &want, |i| unit * want[i].abs());
                    let grads = (loss * 0.5)?.sum_all()?.backward()?;
                    let got = grads.get(&x).expect("the logits must have a gradient");
                    assert_eq!((got.dims(), got.dtype()), (x.dims(), dtype));
                    let unit = if dtype == DType::F64 { 1e-15 } else { dtype_unit(dtype) };
                    assert_close(&format!("{name}, {layout}"), &flat(got), &dx, |i| unit * dx[i].abs().max(1e-3));
                }
                let x = Var::from_tensor(&x)?;
                let loss = composed(&x, &y)?;
                assert_eq!(
                    (loss.dims(), loss.dtype()),
                    (dims, kind),
                    "{name}: the loss must have the shape {dims:?} and the type {kind:?}"
                );
                // The tolerance covers a few roundings. The rounded terms have magnitudes up to 100.
                assert_close(name, &flat(&loss), &want, |i| 8.0 * unit * want[i].abs().max(100.0));
                let grads = (loss * 0.5)?.sum_all()?.backward()?;
                let unit = dtype_unit(dtype).max(unit);
                assert_close(name, &flat(grads.get(&x).expect("the logits must have a gradient")), &dx, |i| {
                    8.0 * unit * dx[i].abs().max(1.0)
                });
            }
        }
    }
    Ok(())
}

#[test]
fn what_losses_beside_targets_refuse() -> Result<()> {
    let x = tensor(&[2, 3], DType::F32, 2.0, 3)?;
    let out = Tensor::new(&[[0f32, 1., 0.5], [0.5, 1.5, 0.]], CPU)?;
    for (name, loss) in [
        (
            "bce_with_logits",
            (|x, y| guarded::bce_with_logits(x, y, &BceWithLogits::default())) as fn(&Tensor, &Tensor) -> _,
        ),
        ("kl_div", |x, y| guarded::kl_div(x, y, &KlDiv::default())),
    ] {
        let refused = |x: &Tensor, y: &Tensor| loss(x, y).unwrap_err();
        assert_eq!(
            (refused(&x, &out).name(), refused(&x, &out).row()),
            ("InvalidArgument", Some(1)),
            "{name} must reject the target 1.5 in row 1"
        );
        assert_eq!(refused(&x, &out.t()?).name(), "ShapeMismatch", "{name} must reject transposed targets");
        assert_eq!(
            refused(&x, &out.to_dtype(DType::U32)?).name(),
            "UnsupportedDType",
            "{name} must reject u32 targets"
        );
        let one = Tensor::new(1f32, CPU)?;
        assert_eq!(refused(&one, &one).name(), "ShapeMismatch", "{name} must reject scalars");
    }
    let drop_in = ours::loss::binary_cross_entropy_with_logit(&x, &out).unwrap_err();
    assert_eq!(Error::from(drop_in).row(), Some(1));
    // Tracked targets get a gradient: the negated logit, divided by the number of elements.
    let y = Var::from_tensor(&x.affine(0.0, 0.5)?)?;
    let grads = ours::loss::binary_cross_entropy_with_logit(&x, &y)?.backward()?;
    let (got, want) =
        (flat(grads.get(&y).expect("the targets must have a gradient")), flat(&x.affine(-1.0 / 6.0, 0.0)?));
    assert_close("targets", &got, &want, |_| 1e-6);
    Ok(())
}
