//! Tests of GGUF files: types, shapes, skipped metadata, and alignment.

use crate::write::{Gguf, Tensor, inspect, normals, text};

#[test]
fn floats_and_integers() {
    let values = normals(1, 64, 1.0);
    let floats = |dtype, id| (Tensor::floats(dtype, dtype, &[4, 16], &values), id);
    let file = Gguf::new(vec![
        floats("F32", 0),
        floats("F16", 1),
        (Tensor::new("ids", "I32", &[3], vec![0; 12]), 26),
        floats("BF16", 30),
        floats("F64", 28),
        (Tensor::new("iq", "IQ2_XXS", &[256], vec![0; 66]), 16),
    ]);
    let inspected = inspect(&file.bytes()).expect("the test's GGUF file must be valid");
    let dtypes: Vec<&str> = inspected.iter().map(|one| one.dtype).collect();
    assert_eq!(dtypes, ["F32", "F16", "I32", "BF16", "F64", "IQ2_XXS"]);
    assert_eq!(inspected[0].shape, [4, 16]);
    let mean = values.iter().sum::<f64>() / 64.0;
    for (one, tolerance) in inspected.iter().zip([1e-7, 1e-3, 0.0, 1e-2, 1e-12, 0.0]) {
        match &one.stats {
            Some(stats) => assert!(
                (stats.mean - mean).abs() <= tolerance,
                "{}: expected mean {mean}, got {}",
                one.name,
                stats.mean
            ),
            None => assert_eq!(tolerance, 0.0, "{}: expected statistics, got none", one.name),
        }
    }
}

#[test]
fn metadata_is_read_over() {
    let list = |kind: u32, count: u64, items: Vec<u8>| [&kind.to_le_bytes()[..], &count.to_le_bytes(), &items].concat();
    let strings = list(8, 2, [text("a"), text("bc")].concat());
    let nested = list(9, 2, [list(0, 3, vec![1, 2, 3]), strings.clone()].concat());
    let mut file = Gguf::new(vec![(Tensor::floats("w", "F32", &[2], &[1.0, 3.0]), 0)]);
    for (kind, size) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)] {
        file = file.with(&format!("plain.{kind}"), kind, vec![1; size]);
    }
    let file = file.with("strings", 9, strings).with("nested", 9, nested).with("floats", 9, list(6, 2, vec![0; 8]));
    let inspected = inspect(&file.bytes()).expect("the test's GGUF file must be valid");
    assert_eq!(inspected[0].stats.as_ref().map(|stats| stats.mean), Some(2.0));
    let older = Gguf { version: 2, ..file };
    assert_eq!(inspect(&older.bytes()).expect("a GGUF file of version 2 must be valid"), inspected);
}

#[test]
fn another_alignment() {
    let tensors = vec![(Tensor::floats("a", "F32", &[1], &[1.0]), 0), (Tensor::floats("b", "F32", &[1], &[5.0]), 0)];
    let mut file = Gguf::new(tensors).with("general.alignment", 4, 64u32.to_le_bytes().to_vec());
    file.alignment = 64;
    file.tensors[1].2 = 64;
    let inspected = inspect(&file.bytes()).expect("the test's GGUF file must be valid");
    assert_eq!(inspected[1].stats.as_ref().map(|stats| stats.max), Some(5.0));
}
