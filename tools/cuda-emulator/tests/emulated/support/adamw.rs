//! Cases for steps of AdamW.

use super::{Guarded, How};
use evenkeel::DType;
use evenkeel::cuda::adamw::{Memory, RoundingAt, launch, launch_begin, progress};
use evenkeel::cuda::{DeviceElement, TypedDevicePtr};
use evenkeel::train::init::Stream;
use evenkeel::train::{AdamW, Numbers, Optimizer};
use evenkeel_cuda_emulator::Emulator;

/// Steps of one parameter.
pub struct Steps<'a, E, G> {
    pub options: AdamW,
    /// Number of earlier steps.
    pub before: u64,
    /// Weights before each step. With `Some`, other code has overwritten the weights since the previous step. With
    /// `None`, the weights are the results of the previous step.
    pub weights: &'a [Option<Vec<E>>],
    /// Gradient of each step. If one is not finite, the step is skipped.
    pub gradients: &'a [Vec<G>],
    /// Seed of stochastic rounding, for weights of 16 bits. Without a seed, the step uses master weights.
    pub seed: Option<u64>,
}

/// Runs the steps. Fails if weights or states differ from the CPU's after a step.
pub fn case<E: DeviceElement, G: DeviceElement>(
    emulator: &Emulator,
    steps: &Steps<'_, E, G>,
    how: How,
) -> Result<(), String> {
    let Steps { options, before, weights: all_weights, gradients, seed } = steps;
    let mut expected = all_weights[0].clone().expect("there must be weights before the first step");
    let len = expected.len();
    let mut optimizer = Optimizer::new(*options, &[E::floats(&expected)]).unwrap();
    if let Some(seed) = seed {
        optimizer = optimizer.stochastic_rounding(*seed);
    }
    if *before > 0 {
        let mut states = optimizer.state().to_vec();
        states[0].steps = *before;
        optimizer.restore(states).unwrap();
    }
    let is_f32 = E::DTYPE == DType::F32;
    let mut words = progress(*before);
    let mut weights = Guarded::of(&expected, how.shift);
    let wide: Vec<f32> = expected.iter().map(|w| w.widen() as f32).collect();
    let mut master = Guarded::of(&wide, how.shift);
    let zeros = vec![0f32; len];
    // If the weights are not aligned, the state is still aligned in half of the cases.
    let (mut mean, mut root) = (Guarded::of(&zeros, how.shift / 2), Guarded::of(&zeros, how.shift / 2));
    let mut skipped = 0;
    for (i, gradient) in gradients.iter().enumerate() {
        let describe = |found: String| {
            let types = (E::DTYPE, G::DTYPE);
            format!("step {i} after {before} of {len} {types:?}, {options:?}, seed {seed:?}, {how:?}: {found}")
        };
        if let Some(Some(overwritten)) = all_weights.get(i) {
            expected.copy_from_slice(overwritten);
            weights.values_mut().copy_from_slice(overwritten);
        }
        let mut on_device = Guarded::of(gradient, how.shift);
        let norm = [gradient.iter().map(|g| g.widen().abs()).fold(0.0, f64::max)];
        let norm = if gradient.iter().any(|g| g.widen().is_nan()) { [f64::NAN] } else { norm };
        let rounding = match seed {
            _ if is_f32 => RoundingAt::None,
            Some(seed) => RoundingAt::Stochastic(Stream::numbered(*seed, 0)),
            None => RoundingAt::Master(master.address()),
        };
        let norm_at = if i % 2 == 0 || !norm[0].is_finite() { norm.as_ptr() as u64 } else { 0 };
        let begin = launch_begin(words.as_mut_ptr() as u64, norm_at, options).unwrap();
        // SAFETY: the addresses point to memory of the required lengths, which outlives the kernel run.
        unsafe { how.run(emulator, begin) }.map_err(describe)?;
        let memory = Memory {
            progress: words.as_mut_ptr() as u64,
            weights: TypedDevicePtr { address: weights.address(), dtype: E::DTYPE },
            rounding,
            mean: mean.address(),
            root_mean_square: root.address(),
            gradient: TypedDevicePtr { address: on_device.address(), dtype: G::DTYPE },
        };
        let planned = launch(memory, len).unwrap().expect("a parameter with elements must launch a kernel");
        // SAFETY: the addresses point to memory of the required lengths, which outlives the kernel run.
        unsafe { how.run(emulator, planned) }.map_err(describe)?;

        let stepped = optimizer.step(&mut [E::floats_mut(&mut expected)], &[Some(G::floats(gradient))]);
        assert_eq!(
            stepped.is_ok(),
            norm[0].is_finite(),
            "the CPU must reject a step exactly if the gradients' norm is not finite, but its result is {stepped:?}"
        );
        skipped += u64::from(stepped.is_err());
        weights.compare(&expected).map_err(|found| describe(format!("weights: {found}")))?;
        let state = &optimizer.state()[0];
        let [Numbers::F32(of_mean), Numbers::F32(of_root)] = &state.kept[..] else {
            unreachable!("the state of f32 and 16-bit weights is f32")
        };
        mean.compare(of_mean).map_err(|found| describe(format!("mean: {found}")))?;
        root.compare(of_root).map_err(|found| describe(format!("root: {found}")))?;
        if let Some(of_master) = &state.master {
            master.compare(of_master).map_err(|found| describe(format!("master: {found}")))?;
        }
        if words[..2] != [state.steps, skipped] {
            return Err(describe(format!(
                "expected {} steps and {skipped} skipped steps, got {:?}",
                state.steps,
                &words[..2]
            )));
        }
    }
    Ok(())
}
