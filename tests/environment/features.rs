//! Calls that require certain cargo features.

use crate::calls::{Add, COLS, ROWS, bits, numbers};

/// Adds a call. It inspects a checkpoint on the threads of a pool, and then lists the findings on this thread.
pub fn checkpoint(add: &mut Add<'_>) {
    use evenkeel::checkpoint::{Checkpoint, Thresholds};
    let small = numbers::<f32>(ROWS * COLS, 1e-42);
    let tensors: [(&str, &str, Vec<u8>); 3] = [
        ("norm.weight", "F32", numbers::<f32>(ROWS * COLS, 1.0).iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("wide", "F64", numbers::<f64>(ROWS * COLS, 1e-309).iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("small", "F32", small.iter().flat_map(|v| v.to_le_bytes()).collect()),
    ];
    let mut data = Vec::new();
    let header: Vec<String> = (tensors.iter())
        .map(|(name, dtype, bytes)| {
            let start = data.len();
            data.extend(bytes);
            let (count, end) = (ROWS * COLS, data.len());
            format!(r#""{name}":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", header.join(","));
    let file = tempfile::NamedTempFile::with_suffix(".safetensors").unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(file.path(), bytes).unwrap();
    add(
        "Checkpoint::inspect",
        Box::new(move || {
            let inspected = Checkpoint::open(file.path()).unwrap().inspect().unwrap();
            let stats = inspected.iter().flat_map(|one| {
                let s = one.stats.as_ref().unwrap();
                let numbers = [s.min, s.max, s.mean, s.std, s.rms, s.max_abs, s.bin_width];
                let fits = s.fits.iter().flat_map(|fit| [fit.overflow, fit.underflow]);
                let counts = [s.zero, s.subnormal].into_iter().chain(fits);
                [bits(&numbers), bits(&s.quantiles), bits(&s.abs_quantiles), counts.collect()].concat()
            });
            let findings = Thresholds::default().findings(&inspected);
            let found = findings.iter().flat_map(|one| {
                [one.value, one.threshold].map(f64::to_bits).into_iter().chain(one.message.bytes().map(u64::from))
            });
            stats.chain(found).collect()
        }),
    );
}

/// Adds calls on candle tensors. These calls run code that the ops on slices do not have.
pub fn candle(add: &mut Add<'_>) {
    use candle_core::{Device, Tensor};
    use evenkeel::candle::generation::{LogitsProcessor, Sampling};
    use evenkeel::candle::{guarded, init};
    use evenkeel::{CrossEntropy, Reduction};
    let logits = Tensor::from_vec(numbers::<f32>(ROWS * COLS, 0.1), (ROWS, COLS), &Device::Cpu).unwrap();
    let row = logits.get(0).unwrap();
    let targets = Tensor::new(&[3u32, 500, 9, 7], &Device::Cpu).unwrap();
    add(
        "candle, cross_entropy",
        Box::new(move || {
            let options = CrossEntropy::default().label_smoothing(0.1).reduction(Reduction::None);
            bits(&guarded::cross_entropy(&logits, &targets, &options).unwrap().to_vec1::<f32>().unwrap())
        }),
    );
    add(
        "candle, sample_f",
        Box::new(move || {
            let mut processor = LogitsProcessor::from_sampling(7, Sampling::TopP { p: 0.9, temperature: 0.7 });
            (0..20).map(|_| u64::from(processor.sample_f(&row, |_| ()).unwrap())).collect()
        }),
    );
    add(
        "candle, hints of initial values",
        Box::new(|| {
            let hint = candle_nn::init::DEFAULT_KAIMING_UNIFORM;
            match init::of_hint(&hint, &(5, 7).into()) {
                evenkeel::train::init::Init::Uniform { low, high } => bits(&[low, high]),
                other => {
                    panic!("init::of_hint(DEFAULT_KAIMING_UNIFORM): expected a uniform initialisation, got {other:?}")
                }
            }
        }),
    );
}
