//! Lists of the CPU features of each instruction set. One list serves the functions that enable the features and the
//! test that detects the features. So no function can enable a feature that was not detected.

/// Calls a macro with the features of AVX2, followed by the other arguments.
macro_rules! with_avx2 {
    ($macro:ident $($argument:tt)*) => {
        $macro! { ["avx2" "fma" "f16c" "bmi1" "bmi2" "lzcnt" "popcnt"] $($argument)* }
    };
}

/// Calls a macro with the features of AVX-512, followed by the other arguments.
macro_rules! with_avx512 {
    ($macro:ident $($argument:tt)*) => {
        $macro! {
            ["avx512f" "avx512vl" "avx512bw" "avx512dq" "avx2" "fma" "f16c" "bmi1" "bmi2" "lzcnt" "popcnt"]
            $($argument)*
        }
    };
}

/// Returns whether the CPU and the operating system support all features of a list.
macro_rules! detected {
    ([$($feature:tt)*]) => { true $(&& std::arch::is_x86_feature_detected!($feature))* };
}

/// Declares a function that enables all features of a list.
macro_rules! enabled {
    ([$($feature:tt)*] $($function:tt)*) => {
        #[target_feature($(enable = $feature),*)]
        $($function)*
    };
}

pub(super) use {detected, enabled, with_avx2, with_avx512};
