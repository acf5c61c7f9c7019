//! The lines of tests/vectors/train.tsv: what PyTorch did. `scripts/train-vectors.py` says what the fields are.

/// The fields of each line that is of this kind, without the kind.
pub fn lines(kind: &str) -> Vec<Vec<&'static str>> {
    let lines = include_str!("../vectors/train.tsv").lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines.filter(|fields| fields[0] == kind).map(|fields| fields[1..].to_vec()).collect()
}

/// Numbers that a field holds the bits of.
pub fn f64s(field: &str) -> Vec<f64> {
    field.split(' ').map(|bits| f64::from_bits(u64::from_str_radix(bits, 16).unwrap())).collect()
}

/// As [`f64s`], of f32.
pub fn f32s(field: &str) -> Vec<f32> {
    field.split(' ').map(|bits| f32::from_bits(u32::from_str_radix(bits, 16).unwrap())).collect()
}
