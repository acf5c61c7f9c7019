//! Tests of training steps. A step is applied fully or not at all. A resumed run gives the same bits as an
//! uninterrupted run. Each step is recorded.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, Optimizer, ParamsAdamW, VarMap, linear};
use evenkeel::candle::init::Seeded;
use evenkeel::candle::optim::AdamW;
use evenkeel::candle::train::{Accumulator, StableStep, Stepped, save};
use evenkeel::train::{LossScale, LossScaler, Monitor, Record, Sink, precision};
use evenkeel::{ClipGradNorm, Error};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

const WIDTH: usize = 8;

struct Setup {
    map: VarMap,
    layer: candle_nn::Linear,
    x: Tensor,
}

impl Setup {
    fn new(dtype: DType) -> Setup {
        let map = VarMap::new();
        let vb = Seeded::new(&map, 5).var_builder(dtype, &Device::Cpu);
        let layer = linear(WIDTH, WIDTH, vb).unwrap();
        let numbers: Vec<f32> = (0..4 * WIDTH).map(|i| ((i * 37 % 23) as f32 - 11.0) / 8.0).collect();
        let x = Tensor::from_vec(numbers, (4, WIDTH), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        Setup { map, layer, x }
    }

    fn step(&self, scale: LossScale, max_norm: f64) -> StableStep<ParamsAdamW> {
        let optimizer = AdamW::from_map(&self.map, ParamsAdamW { lr: 1e-2, ..Default::default() }).unwrap();
        StableStep::new(optimizer, scale, ClipGradNorm::new(max_norm)).unwrap()
    }

    fn loss(&self) -> Result<Tensor> {
        self.layer.forward(&self.x)?.to_dtype(DType::F32)?.sqr()?.mean_all()
    }

    fn values(&self) -> Vec<Vec<f32>> {
        let mut vars: Vec<(String, Var)> = self.map.data().lock().unwrap().clone().into_iter().collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let values = |var: &Var| var.flatten_all()?.to_dtype(DType::F32)?.to_vec1();
        vars.iter().map(|(_, var)| values(var).unwrap()).collect()
    }
}

/// Sink that keeps records for the test to inspect.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<Record>>>);

impl Sink for Kept {
    fn name(&self) -> String {
        "kept".into()
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.0.lock().unwrap().push(record.clone());
        Ok(())
    }
}

#[test]
fn without_scale_and_limit_it_is_the_optimisers_step() {
    let (ours, plain) = (Setup::new(DType::F32), Setup::new(DType::F32));
    let mut step = ours.step(LossScale::constant(1.0), f64::INFINITY);
    let mut optimizer = AdamW::from_map(&plain.map, ParamsAdamW { lr: 1e-2, ..Default::default() }).unwrap();
    for number in 0..5 {
        assert_eq!(step.number(), number);
        step.run(|| ours.loss()).unwrap();
        optimizer.backward_step(&plain.loss().unwrap()).unwrap();
    }
    assert_eq!(ours.values(), plain.values());
}

/// Checks that a power-of-two scale does not change a bit of f32 gradients.
#[test]
fn a_scale_that_is_taken_off_again_does_not_show() {
    let (scaled, plain) = (Setup::new(DType::F32), Setup::new(DType::F32));
    let (mut a, mut b) = (scaled.step(LossScale::dynamic(), 0.125), plain.step(LossScale::constant(1.0), 0.125));
    for _ in 0..5 {
        assert_eq!(a.run(|| scaled.loss()).unwrap(), b.run(|| plain.loss()).unwrap());
    }
    assert_eq!(scaled.values(), plain.values());
}

#[test]
fn what_overflows_is_skipped_until_the_scale_fits() {
    let setup = Setup::new(DType::F16);
    let kept = Kept::default();
    let mut step = setup.step(precision::loss_scale(evenkeel::DType::F16).init(f32::from_bits(0x5f00_0000)), 1.0);
    step = step.monitor(Monitor::default().layers_every(1).sink(kept.clone()));
    let mut skipped = 0;
    let first = setup.values();
    loop {
        match step.run(|| setup.loss()).unwrap() {
            Stepped::Taken { norm, .. } => {
                assert!(norm.is_finite() && norm > 0.0);
                break;
            }
            Stepped::Skipped { why, .. } => {
                assert!(
                    matches!(why, Some(Error::NonFiniteInput { .. })),
                    "a step in f16 must be skipped because of a NonFiniteInput error, got {why:?}"
                );
                assert_eq!(setup.values(), first);
                skipped += 1;
            }
            other => panic!("a step in f16 must return Taken or Skipped, got {other:?}"),
        }
    }
    assert!(skipped > 10, "a loss scale too large for f16 must cause more than 10 skipped steps, got {skipped}");
    assert_ne!(setup.values(), first);
    assert_eq!((step.scaler().skipped(), step.scaler().taken()), (skipped, 1));
    let records = kept.0.lock().unwrap();
    assert_eq!(records.len() as u64, skipped + 1);
    assert!(records[..skipped as usize].iter().all(|record| record.step.skipped));
    let last = &records[skipped as usize];
    assert_eq!((last.layers.len(), last.step.skipped), (2, false));
    assert!(last.layers.iter().all(|layer| layer.not_finite() == 0 && layer.update_ratio.is_none_or(|r| r > 0.0)));
    assert_eq!(last.step.clipped_norm, last.step.norm.map(|norm| norm.min(1.0)));
}

#[test]
fn a_loss_that_is_no_number_moves_nothing() {
    let setup = Setup::new(DType::F32);
    let first = setup.values();
    let mut step = setup.step(LossScale::dynamic(), 1.0);
    let error = step.run(|| setup.loss()? * f64::NAN).unwrap_err();
    assert_eq!(error.to_string(), "train: the loss of step 0 is NaN; resume from an earlier checkpoint");
    assert_eq!(setup.values(), first);
    // Without `raise_on_nan`, the step is skipped and the call returns no error.
    let mut step = setup.step(LossScale::dynamic(), 1.0).monitor(Monitor::default().raise_on_nan(false));
    let stepped = step.run(|| setup.loss()? * f64::INFINITY).unwrap();
    assert!(
        matches!(&stepped, Stepped::Skipped { why: None, warnings, .. } if warnings.len() == 1),
        "a step with an infinite loss must return Skipped with one warning, got {stepped:?}"
    );
    assert_eq!((setup.values(), step.scaler().scale()), (first, 32768.0));
}

/// Checks that a persistent NaN gradient becomes an error when the loss scale reaches its minimum.
#[test]
fn a_model_that_is_broken_is_an_error() {
    let setup = Setup::new(DType::F32);
    let mut step = setup.step(LossScale::dynamic().init(4.0), 1.0);
    // The loss is finite, but its gradient is NaN.
    let broken = || {
        let y = setup.layer.forward(&setup.x)?;
        (y.zeros_like()? * &y)?.sqrt()?.sum_all()
    };
    let mut steps = 0;
    let error = loop {
        match step.run(broken) {
            Ok(stepped) => assert!(
                matches!(stepped, Stepped::Skipped { .. }),
                "a step with NaN gradients must return Skipped, got {stepped:?}"
            ),
            Err(error) => break error,
        }
        steps += 1;
    };
    assert_eq!(
        steps, 2,
        "NaN gradients: 2 steps must be skipped before the error, got {steps} steps and the error: {error}"
    );
    assert!(
        error.to_string().contains("scale"),
        "NaN gradients at the smallest loss scale: the error must contain \"scale\", got {error}"
    );
}

#[test]
fn a_run_goes_on_with_the_same_bits() {
    let whole = Setup::new(DType::BF16);
    let mut step = whole.step(LossScale::dynamic().interval(3), 0.5);
    for _ in 0..8 {
        step.run(|| whole.loss()).unwrap();
    }

    let halves = Setup::new(DType::BF16);
    let mut step = halves.step(LossScale::dynamic().interval(3), 0.5);
    for _ in 0..4 {
        step.run(|| halves.loss()).unwrap();
    }
    let (state, scaler) = (step.optimizer().state().unwrap(), step.scaler().state());
    let mut again = halves.step(LossScale::dynamic(), 0.5);
    again.optimizer_mut().restore(&state).unwrap();
    let mut again = again.resume(4, LossScaler::restore(scaler).unwrap());
    for number in 4..8 {
        assert_eq!(again.number(), number);
        again.run(|| halves.loss()).unwrap();
    }
    assert_eq!(whole.values(), halves.values());
}

#[test]
fn steps_are_counted_to_the_end() {
    let setup = Setup::new(DType::F32);
    let scaler = setup.step(LossScale::dynamic(), 0.5).scaler().state();
    let mut step = setup.step(LossScale::dynamic(), 0.5).resume(u64::MAX, LossScaler::restore(scaler).unwrap());
    step.run(|| setup.loss()).unwrap();
    step.run(|| setup.loss()).unwrap();
    assert_eq!(step.number(), u64::MAX);
}

/// Checks that a step runs after a step whose optimiser returned an error.
#[test]
fn a_step_after_an_error() {
    let setup = Setup::new(DType::F32);
    let mut step = setup.step(LossScale::dynamic(), 0.5);
    let (scale, rate) = (step.scaler().scale(), step.optimizer().learning_rate());
    step.optimizer_mut().set_learning_rate(-1e-9);
    let error = step.run(|| setup.loss()).unwrap_err();
    assert!(error.to_string().contains("lr is -"), "the error must name the learning rate, got {error}");
    step.optimizer_mut().set_learning_rate(rate);
    let stepped = step.run(|| setup.loss()).unwrap();
    assert!(matches!(stepped, Stepped::Taken { .. }), "the step after an error must be taken, got {stepped:?}");
    assert_eq!((step.scaler().taken(), step.scaler().scale(), step.number()), (1, scale, 1));
}

/// Checks that `save` refuses a tensor that would replace the metadata, and overwrites no file of another process.
#[test]
fn names_that_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensor = Tensor::new(&[1f32], &Device::Cpu).unwrap();
    let error = save(&HashMap::from([("__metadata__".into(), tensor.clone())]), &path).unwrap_err().to_string();
    assert!(error.ends_with("the name __metadata__ is reserved for the file's metadata"), "got {error}");
    assert!(!path.exists());
    let others: Vec<_> =
        (0..100).map(|i| folder.path().join(format!("model.safetensors.{}-{i}.part", std::process::id()))).collect();
    others.iter().for_each(|other| std::fs::write(other, "another process").unwrap());
    save(&HashMap::from([("a".into(), tensor)]), &path).unwrap();
    assert_eq!(candle_core::safetensors::load(&path, &Device::Cpu).unwrap().len(), 1);
    others.iter().for_each(|other| assert_eq!(std::fs::read(other).unwrap(), b"another process"));
}

#[test]
fn no_nan_goes_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
    let tensors = |b: &[f32]| {
        let numbers = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
        HashMap::from([("a".into(), tensor(&[1.0])), ("b".into(), tensor(b)), ("n".into(), numbers)])
    };
    save(&tensors(&[1.0, 2.0]), &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = save(&tensors(&[f32::INFINITY, f32::NAN]), &path).unwrap_err();
    let reason = "b has 1 NaN and 1 infinite values in 2 elements; the first is at index 0";
    assert_eq!(error.to_string(), format!("{} was not saved: {reason}", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let nowhere = folder.path().join("nowhere/model.safetensors");
    let error = save(&tensors(&[1.0]), &nowhere).unwrap_err();
    assert_eq!(error.name(), "Unsaved", "a failed save must return the error Unsaved, got {error}");
    assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<candle_core::Error>()));
    // A folder occupies the path, so `save` fails. It must remove the file that it has partially written.
    std::fs::create_dir(folder.path().join("full")).unwrap();
    std::fs::write(folder.path().join("full/file"), "x").unwrap();
    let error = save(&tensors(&[1.0]), folder.path().join("full")).unwrap_err();
    assert_eq!(error.name(), "Unsaved", "a failed save must return the error Unsaved, got {error}");
    assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<candle_core::Error>()));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().ends_with(".part")),
        "a failed save must leave no .part file in the folder, got the files {left:?}"
    );
}

/// Checks that the accumulator returns the f32 sum of the gradients of two half batches. After the sum is taken, the
/// accumulator must start again at zero.
#[test]
fn halves_of_a_batch_add_up() {
    for dtype in [DType::F32, DType::BF16] {
        let setup = Setup::new(dtype);
        let vars = setup.map.all_vars();
        let of = |rows: Tensor| setup.layer.forward(&rows).unwrap().to_dtype(DType::F32).unwrap().sqr().unwrap();
        let backward = |rows| of(rows).sum_all().unwrap().backward().unwrap();
        let halves = [0, 2].map(|first| setup.x.narrow(0, first, 2).unwrap());
        let mut sum = Accumulator::new(vars.clone());
        for round in 0..2 {
            let [first, mut second] = halves.clone().map(backward);
            sum.add(&first).unwrap();
            sum.add(&second).unwrap();
            let parts = [&first, &second].map(|grads| grads.get(&vars[0]).unwrap().to_dtype(DType::F32).unwrap());
            let expected = (&parts[0] + &parts[1]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            sum.take(&mut second).unwrap();
            let got = second.get(&vars[0]).unwrap();
            assert_eq!(got.dims(), vars[0].dims());
            // In `expected`, both gradients are converted to f32, and the sum is rounded to f32.
            assert_eq!(
                got.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                expected,
                "{dtype:?}, round {round}: the accumulator must return the sum of the gradients of the half batches"
            );
        }
    }
}
