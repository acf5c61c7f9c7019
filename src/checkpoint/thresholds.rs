//! Thresholds of the findings.

use serde::Serialize;

macro_rules! thresholds {
    ($($(#[$doc:meta])* $name:ident: $value:expr,)*) => {
        /// Thresholds beyond which a statistic is a [`Finding`](super::Finding). Fractions of elements are numbers from
        /// 0 to 1.
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

            /// Returns a mutable reference to the threshold of this name, or `None` for an unknown name.
            ///
            /// ```
            /// let mut thresholds = evenkeel::checkpoint::Thresholds::default();
            /// *thresholds.named("norm_max").expect("`norm_max` must be the name of a threshold") = 100.0;
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
    /// Largest allowed number of NaN elements; a larger number gives an error. 0 by default.
    nan: 0.0,
    /// Largest allowed number of infinite elements; a larger number gives an error. 0 by default.
    infinite: 0.0,
    /// Largest allowed fraction of subnormal elements; a larger fraction gives a warning. 0.01 by default.
    subnormal: 0.01,
    /// Largest allowed fraction of elements that overflow in f16; a larger fraction gives a warning. 0 by default.
    f16_overflow: 0.0,
    /// Largest allowed fraction of elements that become 0 in f16; a larger fraction gives a warning. 0.01 by default.
    f16_underflow: 0.01,
    /// Largest allowed fraction of elements that overflow in bf16; a larger fraction gives a warning. 0 by default.
    bf16_overflow: 0.0,
    /// Largest allowed fraction of elements that become 0 in bf16; a larger fraction gives a warning. 0.01 by default.
    bf16_underflow: 0.01,
    /// Largest allowed fraction of elements that overflow in unscaled fp8 E4M3FN; a larger fraction gives a note. 0 by
    /// default.
    e4m3_overflow: 0.0,
    /// Largest allowed fraction of elements that become 0 in unscaled fp8 E4M3FN; a larger fraction gives a note. 0.1
    /// by default.
    e4m3_underflow: 0.1,
    /// Largest allowed fraction of elements that overflow in unscaled fp8 E5M2; a larger fraction gives a note. 0 by
    /// default.
    e5m2_overflow: 0.0,
    /// Largest allowed fraction of elements that become 0 in unscaled fp8 E5M2; a larger fraction gives a note. 0.1 by
    /// default.
    e5m2_underflow: 0.1,
    /// Largest allowed magnitude of a norm's weights; a larger magnitude gives a warning. 16 by default.
    norm_max: 16.0,
    /// Largest allowed rms of a norm's weights; a larger rms gives a warning. 8 by default.
    norm_rms: 8.0,
    /// Largest allowed rms of an embedding's rows; a larger rms gives a warning. 8 by default.
    embedding_rms: 8.0,
    /// If an embedding's rms differs from 1/sqrt(hidden) by at most this factor, the embedding's note says that its
    /// rows have a norm near 1. The default is 1.5.
    embedding_near: 1.5,
    /// Minimum number of elements for which a constant tensor is reported. A matrix of zeros gets a warning, and any
    /// other constant tensor gets a note. 2 by default.
    constant: 2.0,
}
