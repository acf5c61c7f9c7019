//! Tests of GGUF files that are cut short or contain impossible values.

use crate::write::{Gguf, Tensor, refused, text};

fn tensor(name: &str) -> Tensor {
    Tensor::floats(name, "F32", &[2, 4], &[1.0; 8])
}

fn two() -> Gguf {
    Gguf::new(vec![(tensor("a"), 0), (tensor("b"), 0)])
}

/// Creates a header with these counts and nothing else.
fn counts(tensors: u64, pairs: u64) -> Vec<u8> {
    [b"GGUF", &3u32.to_le_bytes()[..], &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat()
}

#[test]
fn cut_anywhere() {
    let file = two().bytes();
    for length in 4..file.len() {
        refused(&file[..length], &[]);
    }
    refused(&file[..file.len() - 1], &["tensor `b`: the end offset", "the file's length"]);
    refused(b"GGUF", &["the version", "the file's length"]);
}

#[test]
fn versions() {
    for (version, words) in [(0, "2 or 3"), (1, "2 or 3"), (4, "2 or 3"), (3u32.swap_bytes(), "big-endian")] {
        let file = Gguf { version, ..two() };
        refused(&file.bytes(), &[&format!("the version is {version}"), words]);
    }
}

#[test]
fn absurd_counts() {
    refused(&counts(u64::MAX, 0), &["the number of tensors is 18446744073709551615", "at most 0"]);
    refused(&counts(0, 1 << 60), &["the number of metadata entries is 1152921504606846976", "at most 0"]);
    let huge = u64::MAX.to_le_bytes();
    let with = |kind, value: Vec<u8>| two().with("key", kind, value).bytes();
    refused(&with(8, huge.to_vec()), &["the length of the value of `key` is 18446744073709551615"]);
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    for kind in [0, 5, 8, 9, 12] {
        refused(&with(9, list(kind, u64::MAX / 2)), &["the length of the value of `key` is 9223372036854775807"]);
    }
    refused(&with(9, list(77, 1)), &["the type of the value of `key` is 77"]);
    refused(&with(13, vec![]), &["the type of the value of `key` is 13"]);
    let nested = list(9, 1).repeat(100);
    refused(&with(9, nested), &["nested too deeply", "8 levels deep"]);
    let key = [counts(0, 1), huge.to_vec(), vec![0; 100]].concat();
    refused(&key, &["the length of a key of the metadata is 18446744073709551615"]);
    let name = [counts(1, 0), huge.to_vec(), vec![0; 100]].concat();
    refused(&name, &["the length of the name of a tensor is 18446744073709551615"]);
}

#[test]
fn names() {
    refused(
        &two().with(&"k".repeat(65_536), 0, vec![0]).bytes(),
        &["the length of a key of the metadata is 65536", "65535"],
    );
    refused(&Gguf::new(vec![(tensor("a"), 0), (tensor("a"), 0)]).bytes(), &["the name `a` is duplicated"]);
    let twice = two().with("key", 0, vec![0]).with("key", 0, vec![0]);
    refused(&twice.bytes(), &["the key `key` is duplicated"]);
    let bad = [counts(0, 1), 2u64.to_le_bytes().to_vec(), vec![0xff, 0xff], vec![0; 8]].concat();
    refused(&bad, &["a key of the metadata", "UTF-8"]);
}

#[test]
fn alignments() {
    for alignment in [0u32, 3, 33, u32::MAX] {
        let file = two().with("general.alignment", 4, alignment.to_le_bytes().to_vec());
        refused(&file.bytes(), &[&format!("general.alignment is {alignment}; it must be a power of two")]);
    }
    refused(&two().with("general.alignment", 8, text("32")).bytes(), &["general.alignment is of type 8"]);
    let larger = two().with("general.alignment", 4, (1u32 << 31).to_le_bytes().to_vec());
    refused(&larger.bytes(), &["tensor `a`: the end offset"]);
}

/// Checks a header that exceeds the maximum length. The file is sparse, so its bytes take no space.
#[cfg(unix)]
#[test]
fn a_header_beyond_the_longest() {
    let file = crate::write::file(&counts(0, 1));
    file.as_file().set_len(300_000_000).expect("the temporary file must grow to 300000000 bytes");
    let refused = |header: Vec<u8>, words: &str| {
        use std::os::unix::fs::FileExt;
        file.as_file().write_all_at(&header, 0).expect("the header must be written to the temporary file");
        let error = crate::write::inspect_path(file.path()).expect_err("the file must be rejected").to_string();
        assert!(error.contains(words), "the error must contain {words:?}, got {error}");
    };
    refused(counts(5_000_000, 0), "the number of tensors is 5000000; it must be at most 4166666");
    let list =
        [text("key"), 9u32.to_le_bytes().to_vec(), 0u32.to_le_bytes().to_vec(), 200_000_000u64.to_le_bytes().to_vec()];
    refused([counts(0, 1), list.concat()].concat(), "the length of the value of `key` is 200000000");
}

#[test]
fn tensors() {
    let with = |change: &dyn Fn(&mut Gguf)| {
        let mut file = two();
        change(&mut file);
        file.bytes()
    };
    refused(&with(&|file| file.tensors[0].1 = 99), &["tensor `a`: the type is 99"]);
    refused(&with(&|file| file.tensors[0].1 = 4), &["tensor `a`: the type is 4"]);
    refused(
        &with(&|file| file.tensors[0].1 = 2),
        &["tensor `a`: the length of the innermost axis is 4", "a multiple of 32"],
    );
    refused(&with(&|file| file.tensors[0].0.shape = vec![1; 5]), &["tensor `a`: the number of axes is 5", "at most 4"]);
    refused(&with(&|file| file.tensors[1].0.shape = vec![1 << 40, 1 << 40]), &["tensor `b`: shape is", "2^64"]);
    refused(&with(&|file| file.tensors[1].0.shape = vec![1 << 61]), &["tensor `b`: the end offset"]);
    refused(&with(&|file| file.tensors[1].0.shape = vec![1 << 62]), &["tensor `b`: shape is", "2^64"]);
    refused(&with(&|file| file.tensors[0].2 = 1), &["tensor `a`: the offset is 1; it must be 0"]);
    refused(&with(&|file| file.tensors[1].2 = 64), &["tensor `b`: the offset is 64; it must be 32"]);
    refused(&with(&|file| file.tensors[0].0.shape = vec![16]), &["tensor `b`: the offset is 32; it must be 64"]);
    let mut swapped = two();
    swapped.tensors.swap(0, 1);
    refused(&swapped.bytes(), &["tensor `b`: the offset is 32; it must be 0"]);
    // A huge offset is rejected, because each tensor has exactly one correct offset.
    let mut far = two().bytes();
    let at = far
        .windows(9)
        .position(|bytes| bytes == b"\x01\0\0\0\0\0\0\0b")
        .expect("the GGUF file must contain the name of tensor `b`");
    far[at + 33..at + 41].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&far, &["tensor `b`: the offset is 18446744073709551615"]);
}
