//! Lines of tests/vectors/train.tsv: results of PyTorch. `scripts/train-vectors.py` documents the fields.

/// Returns the fields of each line of this kind, without the first field, which names the kind.
pub fn lines(kind: &str) -> Vec<Vec<&'static str>> {
    let lines = include_str!("../vectors/train.tsv").lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines.filter(|fields| fields[0] == kind).map(|fields| fields[1..].to_vec()).collect()
}

/// Parses f64 numbers given by their bits in hexadecimal.
pub fn f64s(field: &str) -> Vec<f64> {
    field.split(' ').map(|bits| f64::from_bits(u64::from_str_radix(bits, 16).unwrap())).collect()
}

/// Parses f32 numbers given by their bits in hexadecimal.
pub fn f32s(field: &str) -> Vec<f32> {
    field.split(' ').map(|bits| f32::from_bits(u32::from_str_radix(bits, 16).unwrap())).collect()
}
