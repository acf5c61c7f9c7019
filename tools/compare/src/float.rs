//! Element types of the comparison, and the operations that hand-written loops need.

use candle_core::WithDType;
use evenkeel::Element;
use half::{bf16, f16};

pub trait Float: Element + WithDType {
    /// Name on the command line and in tables.
    const NAME: &'static str;
    fn single(self) -> f32;
    /// Rounds to nearest, ties to even.
    fn narrow(x: f32) -> Self;
    /// Reads every element, with as little other work as possible.
    fn read(x: &[Self]) -> u32;
}

macro_rules! float {
    ($($type:ident: $single:expr, $narrow:expr;)*) => {$(
        impl Float for $type {
            const NAME: &'static str = stringify!($type);
            fn single(self) -> f32 {
                $single(self)
            }
            fn narrow(x: f32) -> Self {
                $narrow(x)
            }
            fn read(x: &[Self]) -> u32 {
                // Reads 32 elements at a time, which is enough to keep a core's load units busy.
                let (parts, rest) = x.as_chunks::<32>();
                let mut all = [0; 32];
                for part in parts {
                    all.iter_mut().zip(part).for_each(|(all, x)| *all ^= x.to_bits());
                }
                let rest = rest.iter().map(|x| x.to_bits());
                all.into_iter().chain(rest).fold(0, |all, x| all ^ x).into()
            }
        }
    )*};
}
float! {
    f32: std::convert::identity, std::convert::identity;
    f16: f16::to_f32, f16::from_f32;
    bf16: bf16::to_f32, bf16::from_f32;
}

/// Runs an expression with `E` as the type of the given name.
#[macro_export]
macro_rules! with_dtype {
    ($name:expr, $E:ident => $e:expr) => {
        match $name {
            "f16" => {
                type $E = half::f16;
                $e
            }
            "bf16" => {
                type $E = half::bf16;
                $e
            }
            _ => {
                type $E = f32;
                $e
            }
        }
    };
}
