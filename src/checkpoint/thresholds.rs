//! Thresholds of the findings.

use serde::Serialize;

macro_rules! thresholds {
    ($($(#[$doc:meta])* $name:ident: $value:expr,)*) => {
        /// Thresholds beyond which a statistic is a [`Finding`](super::Finding). Shares are fractions of 1.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        #[non_exhaustive]
        pub struct Thresholds {
            $($(#[$doc])* pub $name: f64,)*
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Thresholds { $($name: $value,)* }
            }
        }

        impl Thresholds {
            /// Names of all thresholds.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Returns the threshold of this name, to be changed, or `None` for an unknown name.
            ///
            /// ```
            /// let mut thresholds = evenkeel::checkpoint::Thresholds::default();
            /// *thresholds.named("norm_max").expect("it is a threshold") = 100.0;
            /// assert_eq!(thresholds.norm_max, 100.0);
            /// assert!(thresholds.named("norm_min").is_none());
            /// ```
            pub fn named(&mut self, name: &str) -> Option<&mut f64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

thresholds! {
    /// Number of NaN above which a tensor has an error. 0 by default.
    nan: 0.0,
    /// Number of infinities above which a tensor has an error. 0 by default.
    infinite: 0.0,
    /// Share of subnormal elements above which a tensor has a warning. 0.01 by default.
    subnormal: 0.01,
    /// Share of elements that overflow in f16 above which a tensor has a warning. 0 by default.
    f16_overflow: 0.0,
    /// Share of elements that become 0 in f16 above which a tensor has a warning. 0.01 by default.
    f16_underflow: 0.01,
    /// Share of elements that overflow in bf16 above which a tensor has a warning. 0 by default.
    bf16_overflow: 0.0,
    /// Share of elements that become 0 in bf16 above which a tensor has a warning. 0.01 by default.
    bf16_underflow: 0.01,
    /// Share of elements that overflow in unscaled fp8 E4M3FN above which a tensor has a note. 0 by default.
    e4m3_overflow: 0.0,
    /// Share of elements that become 0 in unscaled fp8 E4M3FN above which a tensor has a note. 0.1 by default.
    e4m3_underflow: 0.1,
    /// Share of elements that overflow in unscaled fp8 E5M2 above which a tensor has a note. 0 by default.
    e5m2_overflow: 0.0,
    /// Share of elements that become 0 in unscaled fp8 E5M2 above which a tensor has a note. 0.1 by default.
    e5m2_underflow: 0.1,
    /// Magnitude of a norm's weight above which the norm has a warning. 16 by default.
    norm_max: 16.0,
    /// Rms of a norm's weights above which the norm has a warning. 8 by default.
    norm_rms: 8.0,
    /// Rms of an embedding's rows above which the embedding has a warning. 8 by default.
    embedding_rms: 8.0,
    /// Factor by which an embedding's rms may differ from 1/sqrt(hidden) to be called near it in its note. 1.5 by
    /// default.
    embedding_near: 1.5,
    /// Number of elements from which a constant tensor has a note, or a warning if it is a matrix of zeros. 2 by
    /// default.
    constant: 2.0,
}
