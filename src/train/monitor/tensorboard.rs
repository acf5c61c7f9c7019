//! Training records as TensorBoard event files. A file contains protocol buffers of `tensorflow/core/util/event.proto`
//! and `tensorflow/core/framework/summary.proto`, in the frames of `tensorflow/core/lib/io/record_writer.h`.

use super::append::append;
use super::histogram::Histogram;
use super::record::Record;
use super::sink::Sink;
use crate::simd::in_default;
use prost::Message;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A TensorBoard event file in a log folder. It contains scalars for each step. For recorded layers, it also contains
/// gradient histograms, norms and update ratios.
///
/// ```no_run
/// use evenkeel::train::{Monitor, TensorBoard};
/// let monitor = Monitor::default().sink(TensorBoard::create("runs/f16")?); // tensorboard --logdir runs
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
}

impl TensorBoard {
    /// Creates a new file in this folder. Also creates the folder if it does not exist. A resumed run writes to another
    /// new file.
    ///
    /// # Errors
    /// The errors of creating the folder and the file.
    pub fn create(folder: impl AsRef<Path>) -> io::Result<Self> {
        in_default(|| Self::create_in(folder.as_ref()))
    }

    fn create_in(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let seconds = now() as u64;
        let mut number = 0;
        let (path, file) = loop {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.evenkeel.{number}"));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        let mut events = TensorBoard { path, file };
        events.write(&Event { file_version: "brain.Event:2".into(), ..Event::new(0) })?;
        Ok(events)
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        let frame =
            [&length[..], &masked_crc(&length).to_le_bytes(), &data[..], &masked_crc(&data).to_le_bytes()].concat();
        append(&self.path, &mut self.file, &frame)
    }
}

impl Sink for TensorBoard {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        in_default(|| self.write(&event(record)))
    }
}

/// Returns the event for a record. The function must run in the default floating-point environment.
fn event(record: &Record) -> Event {
    let step = &record.step;
    let mut values = Vec::new();
    let mut scalar = |tag: String, value: Option<f64>| {
        values.extend(value.map(|value| Value { tag, simple_value: Some(value as f32), histo: None }));
    };
    scalar("train/loss".into(), Some(step.loss));
    scalar("train/gradient_norm".into(), step.norm);
    scalar("train/clipped_norm".into(), step.clipped_norm);
    scalar("train/loss_scale".into(), step.scale.map(f64::from));
    scalar("train/learning_rate".into(), step.learning_rate);
    scalar("train/skipped".into(), Some(f64::from(u8::from(step.skipped))));
    for layer in &record.layers {
        scalar(format!("gradient_norm/{}", layer.name), layer.gradient_norm());
        scalar(format!("weight_norm/{}", layer.name), layer.weight_norm());
        scalar(format!("update_ratio/{}", layer.name), layer.update_ratio);
        scalar(format!("not_finite/{}", layer.name), Some(layer.not_finite() as f64));
    }
    for layer in &record.layers {
        if let (Some(histogram), Some(stats)) = (&layer.histogram, &layer.gradient) {
            let count = (stats.count - stats.nan - stats.infinite) as f64;
            let norm = layer.gradient_norm().unwrap_or(0.0);
            values.push(Value {
                tag: format!("gradient/{}", layer.name),
                simple_value: None,
                histo: Some(HistogramProto {
                    min: stats.min,
                    max: stats.max,
                    num: count,
                    sum: count * stats.mean,
                    sum_squares: norm * norm,
                    ..HistogramProto::of(histogram)
                }),
            });
        }
    }
    Event { summary: Some(Summary { value: values }), ..Event::new(step.step) }
}

/// Returns the current time in seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Returns the CRC-32C of bytes in the masked form that event files store. The mask is needed because a CRC detects
/// errors poorly in data that contains plain CRCs.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, tag = "3")]
    file_version: String,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

impl Event {
    fn new(step: u64) -> Self {
        Event { wall_time: now(), step: i64::try_from(step).unwrap_or(i64::MAX), ..Event::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "5")]
    histo: Option<HistogramProto>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramProto {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

impl HistogramProto {
    /// Converts a histogram to buckets. A bucket starts at the limit of the previous bucket, so each gap between bins
    /// needs an empty bucket.
    fn of(histogram: &Histogram) -> Self {
        let mut proto = HistogramProto::default();
        let mut add = |limit: f64, count: f64| {
            proto.bucket_limit.push(limit);
            proto.bucket.push(count);
        };
        let mut end = f64::NEG_INFINITY;
        for bin in &histogram.bins {
            if bin.low > end {
                add(bin.low, 0.0);
            }
            if bin.high > bin.low {
                add(bin.high, bin.count as f64);
            } else {
                // The bin of zeros has no width. Its bucket gets the smallest width that TensorBoard draws.
                add(bin.high + f64::MIN_POSITIVE, bin.count as f64);
            }
            end = bin.high;
        }
        proto
    }
}
