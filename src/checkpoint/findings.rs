//! Findings, which are statistics beyond their thresholds. Some thresholds apply only to tensors with certain names.
//! Every embedding also gets a note about the scale of its rows.

use super::Inspected;
use super::roles::{Role, role};
use super::stats::{Fit, Stats};
use super::thresholds::Thresholds;
use crate::simd::in_default;
use serde::Serialize;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// Useful information.
    Note,
    /// The checkpoint causes problems in some uses, such as a conversion to another type.
    Warning,
    /// The checkpoint is broken.
    Error,
}

impl Level {
    /// Returns the name that the level has in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// A tensor's statistic that is beyond its threshold, or a note about the scale of an embedding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Name of the tensor.
    pub tensor: String,
    /// Severity of the finding.
    pub level: Level,
    /// Name of the threshold in [`Thresholds`].
    pub about: &'static str,
    /// Value of the statistic.
    pub value: f64,
    /// The threshold that the value was compared with.
    pub threshold: f64,
    /// Human-readable description of the finding.
    pub message: String,
}

impl Thresholds {
    /// Returns the findings of all tensors, tensor by tensor.
    pub fn findings(&self, inspected: &[Inspected]) -> Vec<Finding> {
        let of_one = |one| self.of(one).into_iter();
        in_default(|| inspected.iter().flat_map(of_one).collect())
    }

    fn of(&self, inspected: &Inspected) -> Vec<Finding> {
        let Some(stats) = &inspected.stats else { return Vec::new() };
        let mut about = About { tensor: &inspected.name, found: Vec::new() };
        self.not_finite(&mut about, stats);
        if stats.finite > 0 {
            self.constant(&mut about, inspected, stats);
            self.fits(&mut about, stats);
            match role(&inspected.name) {
                Role::Norm { of_heads } => self.norm(&mut about, stats, of_heads),
                Role::Embedding => self.embedding(&mut about, inspected, stats),
                Role::Other => (),
            }
        }
        about.found
    }

    fn not_finite(&self, about: &mut About<'_>, stats: &Stats) {
        let elements = stats.nan + stats.infinite + stats.finite;
        for (name, threshold, count, what) in
            [("nan", self.nan, stats.nan, "not a number"), ("infinite", self.infinite, stats.infinite, "infinite")]
        {
            if count as f64 > threshold {
                let message = format!("{what}: {count} of {elements} elements");
                about.finds(Level::Error, name, count as f64, threshold, message);
            }
        }
        let share = stats.subnormal as f64 / elements.max(1) as f64;
        if share > self.subnormal {
            let message = format!("{} are subnormal; devices that flush them to 0 give other results", percent(share));
            about.finds(Level::Warning, "subnormal", share, self.subnormal, message);
        }
    }

    fn constant(&self, about: &mut About<'_>, inspected: &Inspected, stats: &Stats) {
        let elements = inspected.elements as f64;
        if !stats.is_constant() || elements < self.constant {
            return;
        }
        let zero = stats.max_abs == 0.0;
        // A matrix of zeros gets a warning. Every other constant tensor gets only a note, because biases and norms are
        // often initialised to a constant.
        let level = if zero && inspected.shape.len() > 1 { Level::Warning } else { Level::Note };
        let message = if zero { "all elements are 0".into() } else { format!("all elements are {}", short(stats.min)) };
        about.finds(level, "constant", elements, self.constant, message);
    }

    /// Checks whether the elements fit into narrow types.
    ///
    /// Elements that do not fit into a 16-bit type give a warning, because a conversion loses them. Elements that do
    /// not fit into an 8-bit type give only a note, because a conversion to 8 bits scales the weights, and the scale is
    /// unknown here.
    fn fits(&self, about: &mut About<'_>, stats: &Stats) {
        for (i, level, names, thresholds) in [
            (0, Level::Warning, ["f16_overflow", "f16_underflow"], [self.f16_overflow, self.f16_underflow]),
            (1, Level::Warning, ["bf16_overflow", "bf16_underflow"], [self.bf16_overflow, self.bf16_underflow]),
            (2, Level::Note, ["e4m3_overflow", "e4m3_underflow"], [self.e4m3_overflow, self.e4m3_underflow]),
            (3, Level::Note, ["e5m2_overflow", "e5m2_underflow"], [self.e5m2_overflow, self.e5m2_underflow]),
        ] {
            about.fit(level, names, thresholds, &stats.fits[i], stats.finite);
        }
    }

    fn norm(&self, about: &mut About<'_>, stats: &Stats, of_heads: bool) {
        let (max, rms) = (stats.max_abs, stats.rms);
        let (name, value, threshold) = if max > self.norm_max {
            ("norm_max", max, self.norm_max)
        } else if rms > self.norm_rms {
            ("norm_rms", rms, self.norm_rms)
        } else {
            return;
        };
        let mut message = format!(
            "extreme {} weights: max |w| {}, rms {}; a row with an rms of 1 gets an rms of about {}, or of up to {} if \
             one element dominates the row",
            if of_heads { "QK-norm" } else { "norm" },
            short(max),
            short(rms),
            short(rms),
            short(max),
        );
        if of_heads {
            message += "; this is normal in models with QK-norm such as Qwen3, which are trained to have such weights, \
                        and clamping them changes the model";
        }
        about.finds(Level::Warning, name, value, threshold, message);
    }

    fn embedding(&self, about: &mut About<'_>, inspected: &Inspected, stats: &Stats) {
        let rms = stats.rms;
        if rms > self.embedding_rms {
            let message = format!("the rows of the embedding have an rms of {}", short(rms));
            about.finds(Level::Warning, "embedding_rms", rms, self.embedding_rms, message);
        }
        let Some(&hidden) = inspected.shape.last() else { return };
        let ratio = rms * (hidden as f64).sqrt();
        let near = ratio <= self.embedding_near && ratio >= 1.0 / self.embedding_near;
        let message = format!(
            "the rows of the embedding have an rms of {}, {} times 1/sqrt({hidden}), {}",
            short(rms),
            short(ratio),
            if near { "so their norm is near 1" } else { "so their norm is not near 1" },
        );
        about.finds(Level::Note, "embedding_near", ratio, self.embedding_near, message);
    }
}

/// The findings of one tensor.
struct About<'a> {
    tensor: &'a str,
    found: Vec<Finding>,
}

impl About<'_> {
    fn finds(&mut self, level: Level, about: &'static str, value: f64, threshold: f64, message: String) {
        self.found.push(Finding { tensor: self.tensor.into(), level, about, value, threshold, message });
    }

    fn fit(&mut self, level: Level, names: [&'static str; 2], thresholds: [f64; 2], fit: &Fit, finite: u64) {
        let becomes = [format!("overflow in {}", fit.dtype), format!("become 0 in {}", fit.dtype)];
        for (i, count) in [fit.overflow, fit.underflow].into_iter().enumerate() {
            let share = count as f64 / finite as f64;
            if share > thresholds[i] {
                let message = format!("would {}: {count} of {finite} elements, {}", becomes[i], percent(share));
                self.finds(level, names[i], share, thresholds[i], message);
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// Formats a number of any magnitude with about three digits.
fn short(x: f64) -> String {
    if x == 0.0 || (1e-3..1e4).contains(&x.abs()) {
        #[allow(clippy::disallowed_methods, reason = "the logarithm only selects the number of printed digits")]
        let places = (2.0 - x.abs().max(1e-3).log10().floor()).clamp(0.0, 5.0) as usize;
        let text = format!("{x:.places$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
    } else {
        format!("{x:.2e}")
    }
}
