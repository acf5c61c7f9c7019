//! Element types of the file formats: their names, their sizes, and the decoding of floats.

use super::quantised;
use crate::math::bins::power_of_two;
use half::{bf16, f16};

/// An element type of a file format.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Name of the type in the file's format.
    pub name: &'static str,
    /// Number of elements in a block.
    pub block: u64,
    /// Number of bytes in a block.
    pub bytes: u64,
    /// Method that decodes the values, or `None` for a type that is not analysed.
    pub decode: Option<Decode>,
}

/// Method that decodes bytes to values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decode {
    /// A float of one byte.
    Bits8(Patterns<u8>),
    /// A float of two bytes.
    Bits16(Patterns<u16>),
    F32,
    F64,
    /// A function that decodes whole blocks and appends the values to the vector.
    Blocks(fn(&[u8], &mut Vec<f32>)),
}

/// A float type with so few bit patterns that each pattern has a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patterns<T> {
    /// Function that returns the value of a bit pattern.
    pub value: fn(T) -> f64,
    /// Smallest positive normal value.
    pub min_normal: f64,
}

const fn kind(name: &'static str, block: u64, bytes: u64, decode: Option<Decode>) -> Kind {
    Kind { name, block, bytes, decode }
}

const F16: Option<Decode> =
    Some(Decode::Bits16(Patterns { value: |bits| f16::from_bits(bits).to_f64(), min_normal: 1.0 / 16384.0 }));
const BF16: Option<Decode> = Some(Decode::Bits16(Patterns {
    value: |bits| bf16::from_bits(bits).to_f64(),
    min_normal: f32::MIN_POSITIVE as f64,
}));
const E4M3: Option<Decode> = Some(Decode::Bits8(Patterns { value: e4m3, min_normal: 1.0 / 64.0 }));
const E5M2: Option<Decode> = Some(Decode::Bits8(Patterns { value: e5m2, min_normal: 1.0 / 16384.0 }));

/// Decodes OCP's E4M3FN, which has no infinities and one NaN of each sign.
fn e4m3(bits: u8) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction * power_of_two(-9),
        _ => (8.0 + fraction) * power_of_two(exponent - 10),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Decodes E5M2, which is the upper byte of an f16.
fn e5m2(bits: u8) -> f64 {
    f16::from_bits(u16::from(bits) << 8).to_f64()
}

/// Element types of the safetensors format.
static SAFETENSORS: [Kind; 22] = [
    kind("F64", 1, 8, Some(Decode::F64)),
    kind("F32", 1, 4, Some(Decode::F32)),
    kind("F16", 1, 2, F16),
    kind("BF16", 1, 2, BF16),
    kind("F8_E4M3", 1, 1, E4M3),
    kind("F8_E5M2", 1, 1, E5M2),
    kind("F8_E8M0", 1, 1, None),
    kind("F8_E4M3FNUZ", 1, 1, None),
    kind("F8_E5M2FNUZ", 1, 1, None),
    kind("F6_E2M3", 4, 3, None),
    kind("F6_E3M2", 4, 3, None),
    kind("F4", 2, 1, None),
    kind("C64", 1, 8, None),
    kind("BOOL", 1, 1, None),
    kind("I8", 1, 1, None),
    kind("U8", 1, 1, None),
    kind("I16", 1, 2, None),
    kind("U16", 1, 2, None),
    kind("I32", 1, 4, None),
    kind("U32", 1, 4, None),
    kind("I64", 1, 8, None),
    kind("U64", 1, 8, None),
];

/// Element types of the GGUF format, each with its number in a file.
static GGUF: [(u32, Kind); 32] = [
    (0, kind("F32", 1, 4, Some(Decode::F32))),
    (1, kind("F16", 1, 2, F16)),
    (2, kind("Q4_0", 32, 18, Some(Decode::Blocks(quantised::q4_0)))),
    (3, kind("Q4_1", 32, 20, Some(Decode::Blocks(quantised::q4_1)))),
    (6, kind("Q5_0", 32, 22, Some(Decode::Blocks(quantised::q5_0)))),
    (7, kind("Q5_1", 32, 24, Some(Decode::Blocks(quantised::q5_1)))),
    (8, kind("Q8_0", 32, 34, Some(Decode::Blocks(quantised::q8_0)))),
    (9, kind("Q8_1", 32, 36, None)),
    (10, kind("Q2_K", 256, 84, Some(Decode::Blocks(quantised::q2_k)))),
    (11, kind("Q3_K", 256, 110, Some(Decode::Blocks(quantised::q3_k)))),
    (12, kind("Q4_K", 256, 144, Some(Decode::Blocks(quantised::q4_k)))),
    (13, kind("Q5_K", 256, 176, Some(Decode::Blocks(quantised::q5_k)))),
    (14, kind("Q6_K", 256, 210, Some(Decode::Blocks(quantised::q6_k)))),
    (15, kind("Q8_K", 256, 292, Some(Decode::Blocks(quantised::q8_k)))),
    (16, kind("IQ2_XXS", 256, 66, None)),
    (17, kind("IQ2_XS", 256, 74, None)),
    (18, kind("IQ3_XXS", 256, 98, None)),
    (19, kind("IQ1_S", 256, 50, None)),
    (20, kind("IQ4_NL", 32, 18, None)),
    (21, kind("IQ3_S", 256, 110, None)),
    (22, kind("IQ2_S", 256, 82, None)),
    (23, kind("IQ4_XS", 256, 136, None)),
    (24, kind("I8", 1, 1, None)),
    (25, kind("I16", 1, 2, None)),
    (26, kind("I32", 1, 4, None)),
    (27, kind("I64", 1, 8, None)),
    (28, kind("F64", 1, 8, Some(Decode::F64))),
    (29, kind("IQ1_M", 256, 56, None)),
    (30, kind("BF16", 1, 2, BF16)),
    (34, kind("TQ1_0", 256, 54, None)),
    (35, kind("TQ2_0", 256, 66, None)),
    (39, kind("MXFP4", 32, 17, None)),
];

impl Kind {
    /// Returns the safetensors type of this name.
    pub fn of_safetensors(name: &str) -> Option<&'static Kind> {
        SAFETENSORS.iter().find(|kind| kind.name == name)
    }

    /// Returns the GGUF type of this number.
    pub fn of_gguf(number: u32) -> Option<&'static Kind> {
        GGUF.iter().find(|(id, _)| *id == number).map(|(_, kind)| kind)
    }
}
