//! From where on something is worth a word.

use serde::Serialize;

macro_rules! thresholds {
    ($($(#[$doc:meta])* $name:ident: $value:expr,)*) => {
        /// From where on something is a [`Finding`](super::Finding). Shares are of 1.
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
            /// The name of each.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The threshold of this name, to be set; none of an unknown name.
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
    /// More NaN than this are an error: 0.
    nan: 0.0,
    /// More infinities than this are an error: 0.
    infinite: 0.0,
    /// A larger share of subnormal elements is a warning: 0.01.
    subnormal: 0.01,
    /// A larger share that overflows in f16 is a warning: 0.
    f16_overflow: 0.0,
    /// A larger share that becomes 0 in f16 is a warning: 0.01.
    f16_underflow: 0.01,
    /// A larger share that overflows in bf16 is a warning: 0.
    bf16_overflow: 0.0,
    /// A larger share that becomes 0 in bf16 is a warning: 0.01.
    bf16_underflow: 0.01,
    /// A larger share that overflows in fp8 E4M3FN, unscaled, is a note: 0.
    e4m3_overflow: 0.0,
    /// A larger share that becomes 0 in fp8 E4M3FN, unscaled, is a note: 0.1.
    e4m3_underflow: 0.1,
    /// A larger share that overflows in fp8 E5M2, unscaled, is a note: 0.
    e5m2_overflow: 0.0,
    /// A larger share that becomes 0 in fp8 E5M2, unscaled, is a note: 0.1.
    e5m2_underflow: 0.1,
    /// A norm's weight of a larger magnitude is a warning: 16.
    norm_max: 16.0,
    /// A larger rms of a norm's weights is a warning: 8.
    norm_rms: 8.0,
    /// A larger rms of an embedding's rows is a warning: 8.
    embedding_rms: 8.0,
    /// By what factor an embedding's rms may be off 1/sqrt(hidden) to be called near it, in its note: 1.5.
    embedding_near: 1.5,
    /// A tensor of at least so many elements that are all the same is a note, and a warning if it is a matrix of
    /// zeros: 2.
    constant: 2.0,
}
