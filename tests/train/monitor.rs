//! Tests of a monitor's warnings and of the records in its sinks.

use evenkeel::train::{Bin, Histogram, Jsonl, Layer, Limits, Monitor, Record, Sink, Step, TensorBoard, Warning};
use evenkeel::{Error, Floats};
use half::{bf16, f16};
use std::io;
use std::sync::{Arc, Mutex};

/// Sink that keeps the records, so that a test can inspect them. If `refuses` is set, the sink returns an error for
/// every record.
#[derive(Clone, Debug, Default)]
struct Kept {
    records: Arc<Mutex<Vec<Record>>>,
    refuses: bool,
}

impl Kept {
    fn steps(&self) -> Vec<u64> {
        self.records.lock().unwrap().iter().map(|record| record.step.step).collect()
    }
}

impl Sink for Kept {
    fn name(&self) -> String {
        "a full disk".into()
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        if self.refuses {
            return Err(io::Error::other("no space left"));
        }
        self.records.lock().unwrap().push(record.clone());
        Ok(())
    }
}

/// Returns the texts of the warnings.
fn texts(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(Warning::to_string).collect()
}

fn step(number: u64, loss: f64, norm: f64) -> Step {
    Step::new(number, loss).norm(norm)
}

#[test]
fn limits_are_what_may_still_be() {
    let mut monitor = Monitor::default();
    let mut warnings = |number, loss, norm| monitor.record(step(number, loss, norm), Vec::new()).unwrap().warnings;
    assert_eq!(warnings(0, 1.0, 100.0), []);
    assert_eq!(texts(&warnings(1, 10.0, 100.0_f64.next_up())), ["the gradient norm is 100.0000, above the limit 100"]);
    let loss = 100.0_f64.next_up();
    assert_eq!(
        texts(&warnings(2, loss, 0.0)),
        ["the loss jumped from 10.0000 to 100.0000, by more than a factor of 10"]
    );
    // For a loss of 0 or less, a jump by a factor is not meaningful.
    assert_eq!(warnings(3, 0.0, 0.0), []);
    assert_eq!(warnings(4, 5.0, 0.0), []);
    let unlimited = Limits::default().norm(f64::INFINITY).loss_jump(f64::INFINITY).update_ratio(f64::INFINITY);
    let mut monitor = Monitor::default().limits(unlimited);
    for (number, loss) in [1e-300, 1e300].into_iter().enumerate() {
        assert_eq!(monitor.record(step(number as u64, loss, 1e300), Vec::new()).unwrap().warnings, []);
    }
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_that_is_on_record() {
    let kept = Kept::default();
    let mut monitor = Monitor::default().sink(kept.clone());
    let diverged = |what, value| Error::diverged(3, what, value);
    let raised = monitor.record(step(3, f64::INFINITY, 1.0), Vec::new());
    assert_eq!(raised, Err(diverged("loss", f64::INFINITY)));
    let raised = monitor.record(step(3, 1.0, f64::INFINITY), Vec::new());
    assert_eq!(raised, Err(diverged("norm of the gradients", f64::INFINITY)));
    // A skipped step may have a non-finite norm, because loss scaling handles such a step.
    let skipped = step(4, 1.0, f64::INFINITY).skipped(true);
    let record = monitor.record(skipped, Vec::new()).unwrap();
    assert!(matches!(record.warnings[..], [Warning::NormNotFinite { norm: f64::INFINITY, .. }]));
    assert_eq!(kept.steps(), [3, 3, 4]);
}

#[test]
fn a_jump_is_from_the_last_loss_that_was_finite() {
    let mut monitor = Monitor::default().raise_on_nan(false);
    let mut warnings = |number, loss| monitor.record(Step::new(number, loss), Vec::new()).unwrap().warnings;
    assert_eq!(warnings(0, 2.0), []);
    assert!(matches!(warnings(1, f64::NAN)[..], [Warning::LossNotFinite { loss, .. }] if loss.is_nan()));
    assert_eq!(texts(&warnings(2, 30.0)), ["the loss jumped from 2.0000 to 30.0000, by more than a factor of 10"]);
    let summary = monitor.summary();
    assert_eq!((summary.steps, summary.losses_not_finite, summary.warnings), (3, 1, 2));
    assert_eq!((summary.first_loss, summary.last_loss, summary.least_loss), (Some(2.0), Some(30.0), Some(2.0)));
    assert_eq!(
        summary.to_string(),
        "3 steps, 0 skipped; loss 2.0000 at first, 30.0000 at last, minimum 2.0000; \
         losses that were not finite: 1; 2 warnings"
    );
}

#[test]
fn a_sink_that_fails_is_named_and_the_others_have_the_record() {
    let (full, kept) = (Kept { refuses: true, ..Kept::default() }, Kept::default());
    let mut monitor = Monitor::default().sink(full).sink(kept.clone());
    let error = monitor.record(Step::new(5, 1.0), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "a full disk: no space left; the record of step 5 was not written");
    assert_eq!((error.name(), kept.steps()), ("Sink", vec![5]));
}

#[test]
fn layers_are_asked_for_as_often_as_was_said() {
    let asked = |monitor: Monitor| (0..7).filter(|&step| monitor.wants_layers(step)).collect::<Vec<_>>();
    assert_eq!(asked(Monitor::default().layers_every(3)), [0, 3, 6]);
    assert!(asked(Monitor::default().layers_every(0)).is_empty());
}

#[test]
fn a_layer_is_seen_in_numbers() {
    let gradient = [f32::NAN, 3.0, f32::INFINITY, -4.0];
    let (before, after) = ([bf16::ONE; 4], [bf16::from_f32(1.25); 4]);
    let layer = Layer::new("up").gradient(&gradient).unwrap().update(&before, &after).unwrap();
    assert_eq!((layer.gradient_norm(), layer.weight_norm()), (Some(5.0), Some(2.5)));
    assert_eq!((layer.not_finite(), layer.update_ratio), (2, Some(0.25)));
    let mut monitor = Monitor::default();
    let record = monitor.record(Step::new(0, 1.0), vec![layer]).unwrap();
    assert_eq!(
        texts(&record.warnings),
        ["up: 2 elements are not finite", "up: the step changed the layer by 0.2500 of its norm, above the limit 0.1"]
    );

    // A layer whose weights were 0 has no update ratio and gives no warning. A gradient whose squares overflow f64
    // still has a norm.
    let layer = Layer::new("bias").gradient(&[3e200, 4e200]).unwrap().update(&[0.0f32], &[1.0f32]).unwrap();
    assert_eq!((layer.weight_norm(), layer.update_ratio), (Some(1.0), None));
    assert!((layer.gradient_norm().unwrap() / 5e200 - 1.0).abs() < 4.0 * f64::EPSILON);
    let error = Layer::new("x").update(&[0.0f32; 2], &[0.0f32; 3]).unwrap_err();
    assert_eq!(error.to_string(), "train: after has 3 elements; expected 2 elements");
}

/// Checks a histogram of all f16. Each bin must count the finite values between its limits, every finite value must be
/// counted once, and bins must ascend without overlaps.
#[test]
fn bins_hold_what_they_say() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let histogram = Histogram::of(Floats::from(&all));
    let finite: Vec<f64> = all.iter().map(|x| x.to_f64()).filter(|x| x.is_finite()).collect();
    assert_eq!(histogram.bins.iter().map(|bin| bin.count).sum::<u64>(), finite.len() as u64);
    for bin in &histogram.bins {
        let holds = |x: f64| match bin {
            Bin { low, high, .. } if low == high => x == *low,
            Bin { low, .. } if *low < 0.0 => bin.low < x && x <= bin.high && x != 0.0,
            _ => bin.low <= x && x < bin.high && x != 0.0,
        };
        assert_eq!(
            finite.iter().filter(|&&x| holds(x)).count() as u64,
            bin.count,
            "{bin:?}: the count must equal the number of values in the bin"
        );
    }
    assert!(histogram.bins.windows(2).all(|pair| pair[0].high <= pair[1].low));
    let ends = [f64::MAX, f64::MIN_POSITIVE / 4.0, -0.0];
    let bins = Histogram::of(Floats::from(&ends)).bins;
    let of = |bin: &Bin| (bin.low, bin.high, bin.count);
    assert_eq!(of(&bins[0]), (0.0, 0.0, 1));
    assert_eq!(of(&bins[1]), (0.0, f64::MIN_POSITIVE, 1));
    assert_eq!((bins[2].high, bins.len()), (f64::MAX, 3));
}

#[test]
fn lines_of_json_are_there_at_once_and_a_run_that_goes_on_appends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    for number in 0..2 {
        let mut monitor = Monitor::default().raise_on_nan(false).sink(Jsonl::append(&path).unwrap());
        let layer = Layer::new("q").gradient(&[1.0f32, -2.0, f32::NAN]).unwrap();
        let at = step(number, f64::NAN, f64::INFINITY).scale(1024.0).skipped(true);
        monitor.record(at, vec![layer]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len() as u64, number + 1);
        let last = &lines[number as usize];
        assert_eq!((&last["step"], &last["loss"], &last["norm"]), (&number.into(), &"NaN".into(), &"inf".into()));
        assert_eq!((&last["scale"], &last["skipped"]), (&1024.0.into(), &true.into()));
        assert_eq!(last["layers"][0]["gradient"]["nan"], 1);
        assert_eq!(last["layers"][0]["histogram"]["bins"].as_array().unwrap().len(), 2);
        assert_eq!(last["warnings"][0], "the loss is NaN");
        assert!(last.get("learning_rate").is_none());
    }
}

#[test]
fn numbers_that_json_lacks_are_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let mut monitor = Monitor::default().sink(Jsonl::append(&path).unwrap());
    monitor.record(Step::new(0, 0.5).scale(f32::NAN).learning_rate(f64::INFINITY), vec![]).unwrap();
    let expected = "{\"step\":0,\"loss\":0.5,\"scale\":\"NaN\",\"learning_rate\":\"inf\",\"skipped\":false}\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn a_record_starts_a_new_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    std::fs::write(&path, "{\"step\":0,\"lo").unwrap();
    let mut monitor = Monitor::default().sink(Jsonl::append(&path).unwrap());
    monitor.record(Step::new(1, 0.5), vec![]).unwrap();
    let expected = "{\"step\":0,\"lo\n{\"step\":1,\"loss\":0.5,\"skipped\":false}\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}

/// Runs this test program again with a limit on the size of files. Of the first record beyond the limit, the system
/// writes a part, as on a full disk. The part must not stay in the file.
#[cfg(unix)]
#[test]
fn records_that_do_not_fit_leave_no_part() {
    const FOLDER: &str = "EVENKEEL_TEST_FOLDER";
    const NAME: &str = "monitor::records_that_do_not_fit_leave_no_part";
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let output = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact \"$1\""])
            .args([std::env::current_exe().unwrap().as_os_str(), NAME.as_ref()])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "the test with a file size limit failed: {text}");
        return;
    };
    let path = folder.join("run.jsonl");
    let mut lines = Monitor::default().sink(Jsonl::append(&path).unwrap());
    let failed = (0..1000).find(|&number| lines.record(Step::new(number, 0.5), vec![]).is_err());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Some(text.lines().count() as u64), failed);
    assert!(text.ends_with("}\n"), "the file must end with a whole line, got {text:?}");

    let mut events = Monitor::default().sink(TensorBoard::create(folder.join("events")).unwrap());
    let failed = (0..1000).find(|&number| events.record(Step::new(number, 0.5), vec![]).is_err());
    let path = std::fs::read_dir(folder.join("events")).unwrap().next().unwrap().unwrap().path();
    // The first frame has the version of the format.
    assert_eq!(Some(frames(&std::fs::read(path).unwrap()).len() as u64 - 1), failed);
}

/// Returns the frames of a TensorBoard event file. Panics if a checksum is wrong.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    // CRC-32C by its definition: the reflected polynomial 0x1EDC6F41, bit by bit.
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        })
    };
    assert_eq!(crc(b"123456789"), 0xe306_9283);
    let masked = |bytes: &[u8]| ((crc(bytes) >> 15) | (crc(bytes) << 17)).wrapping_add(0xa282_ead8);
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at(8);
        let (check, rest) = rest.split_at(4);
        assert_eq!(check, masked(length).to_le_bytes());
        let (data, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let (check, rest) = rest.split_at(4);
        assert_eq!(check, masked(data).to_le_bytes());
        frames.push(data.to_vec());
        bytes = rest;
    }
    frames
}

/// Checks the framing of event files. `scripts/tensorboard-check` reads such a file with TensorBoard itself.
#[test]
fn events_are_framed_and_a_run_that_goes_on_has_a_file_more() {
    let folder = tempfile::tempdir().unwrap();
    for files in 1..=2 {
        let mut monitor = Monitor::default().sink(TensorBoard::create(folder.path()).unwrap());
        let layer = Layer::new("q").gradient(&[1.0f32, -2.0, 0.0]).unwrap();
        monitor.record(step(7, 0.5, 1.0), vec![layer]).unwrap();
        let paths: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(paths.len(), files);
        for path in paths {
            let frames = frames(&std::fs::read(path).unwrap());
            assert_eq!(frames.len(), 2);
            let has = |frame: &[u8], text: &str| frame.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(has(&frames[0], "brain.Event:2"));
            assert!(has(&frames[1], "train/loss") && has(&frames[1], "gradient/q"));
        }
    }
}
