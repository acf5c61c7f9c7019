//! Calls that run training steps.

use crate::calls::{Add, bits, numbers};
use evenkeel::train::{
    Accumulator, AdamW, AdaptiveClip, Histogram, Layer, LossScale, Monitor, Optimizer, Rule, Sgd, Step, TensorBoard,
};
use evenkeel::{ClipGradNorm, Floats, clip_grad_norm};
use half::f16;

pub fn training(add: &mut Add<'_>, unit: f64) {
    fn steps<R: Rule>(rule: R, weights: &[f32], grads: &[f32]) -> Vec<u64> {
        // Bit patterns of f16 numbers from 1 to 2.
        let narrow = |i: usize| f16::from_bits(0x3c00 | ((i as u16 * 37) & 0x3ff));
        let (mut wide, mut narrow) = (weights.to_vec(), (0..weights.len()).map(narrow).collect::<Vec<f16>>());
        let mut optimizer = Optimizer::new(rule, &[(&wide).into(), (&narrow).into()]).unwrap();
        for _ in 0..3 {
            let grads = [Some(Floats::from(grads)), Some(Floats::from(grads))];
            optimizer.step(&mut [(&mut wide).into(), (&mut narrow).into()], &grads).unwrap();
        }
        let kept = optimizer.state().iter().flat_map(|state| &state.kept).flat_map(|kept| match kept {
            evenkeel::train::Numbers::F64(values) => bits(values),
            evenkeel::train::Numbers::F32(values) => bits(values),
        });
        [bits(&wide), bits(&narrow), kept.collect()].concat()
    }
    let (weights, grads) = (numbers::<f32>(1000, 1e-2), numbers::<f32>(1000, unit));
    let (w, g) = (weights.clone(), grads.clone());
    add("AdamW", Box::new(move || steps(AdamW::default(), &w, &g)));
    let (w, g) = (weights.clone(), grads.clone());
    add("Sgd", Box::new(move || steps(Sgd::default().momentum(0.9).dampening(0.3).weight_decay(0.1), &w, &g)));
    let g = grads.clone();
    add(
        "Accumulator",
        Box::new(move || {
            let mut sums = Accumulator::new(&[g.len()]).unwrap();
            for _ in 0..3 {
                sums.add(&[Some((&g).into())]).unwrap();
            }
            bits(&sums.grads()[0])
        }),
    );
    let (w, g) = (weights.clone(), grads.clone());
    add(
        "AdaptiveClip",
        Box::new(move || {
            let mut grad = g.clone();
            let clip = AdaptiveClip::default().eps(1e-30).clipping(1e-9);
            let count = clip.clip(&mut grad, &w, &[10, 100]).unwrap();
            [vec![count as u64], bits(&grad)].concat()
        }),
    );
    // The reciprocal of the second scale is subnormal.
    for scale in [1234.5, 2f32.powi(127)] {
        let g = grads.clone();
        add(
            &format!("unscale from {scale:e}"),
            Box::new(move || {
                let mut grad = g.clone();
                let scaler = LossScale::dynamic().init(scale).growth(1.1).backoff(0.3).interval(1);
                let mut scaler = scaler.validate().unwrap();
                let ready = scaler.unscale(&mut [(&mut grad).into()], &ClipGradNorm::new(1e-37)).unwrap();
                assert!(ready.is_ready());
                scaler.step().unwrap();
                scaler.update().unwrap();
                let numbers = [scaler.scale(), scaler.inverse()].map(|scale| u64::from(scale.to_bits()));
                [&numbers[..], &bits(&grad)].concat()
            }),
        );
    }
    let wide = numbers::<f64>(1000, 1e-309);
    add(
        "clip_grad_norm of subnormal numbers",
        Box::new(move || {
            let mut grad = wide.clone();
            let norm = clip_grad_norm(&mut [(&mut grad).into()], &ClipGradNorm::new(1e-310)).unwrap();
            [vec![norm.to_bits()], bits(&grad)].concat()
        }),
    );
    let (w, g) = (weights, grads);
    add(
        "Monitor",
        Box::new(move || {
            let layer = Layer::new("layer").gradient(&g).unwrap().update(&w, &g).unwrap();
            let norms = [layer.gradient_norm(), layer.weight_norm(), layer.update_ratio].map(|n| n.unwrap().to_bits());
            let bins = Histogram::of((&g).into()).bins.into_iter();
            let bins = bins.flat_map(|bin| [bin.low.to_bits(), bin.high.to_bits(), bin.count]);
            let words = norms.into_iter().chain(bins).collect();
            let folder = tempfile::tempdir().unwrap();
            let mut monitor = Monitor::default().sink(TensorBoard::create(folder.path()).unwrap());
            monitor.record(Step::new(0, 1e-310), vec![]).unwrap();
            let record = monitor.record(Step::new(1, 2e-309), vec![layer]).unwrap();
            [words, vec![record.warnings.len() as u64]].concat()
        }),
    );
}
