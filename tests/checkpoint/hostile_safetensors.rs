//! Tests of safetensors files that are cut short or contain impossible values.

use crate::write::{Tensor, refused, safetensors, with_header};

fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

#[track_caller]
fn header_refused(header: &str, bytes: usize, words: &[&str]) {
    refused(&with_header(header, &vec![0; bytes]), words);
}

#[test]
fn lengths() {
    refused(&[], &["the file's length is 0"]);
    refused(&[1; 7], &["the file's length is 7"]);
    refused(&u64::MAX.to_le_bytes(), &["the header's length is 18446744073709551615", "at most 0"]);
    refused(&[&1000u64.to_le_bytes()[..], b"{}"].concat(), &["the header's length is 1000", "at most 2"]);
    let file = safetensors(&[Tensor::floats("x", "F32", &[2], &[1.0, 2.0])]);
    refused(&file[..file.len() - 1], &["tensor `x`", "data_offsets is 0..8", "within the 7 bytes"]);
    refused(&[&file[..], &[0]].concat(), &["the number of bytes after the header is 9", "must be 8"]);
}

/// Checks a header that exceeds the maximum length. The file is sparse, so its bytes take no space.
#[test]
fn a_header_beyond_the_longest() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file must be created");
    std::fs::write(file.path(), 100_000_001u64.to_le_bytes()).expect("a temporary file must be written");
    file.as_file().set_len(200_000_000).expect("the temporary file must grow to 200000000 bytes");
    let error = crate::write::inspect_path(file.path()).expect_err("the file must be rejected").to_string();
    assert!(
        error.contains("the header's length is 100000001; it must be at most 100000000"),
        "expected an error about the header's length, got: {error}"
    );
}

#[test]
fn headers_that_are_none() {
    for header in ["", "{", "not json", "[]", "1", "null", r#"{"x":1}"#, r#"{"x":{}}"#, "{} {}", "\u{0}"] {
        header_refused(header, 0, &["neither GGUF nor safetensors"]);
    }
    header_refused(&"[".repeat(100_000), 0, &["neither GGUF nor safetensors"]);
    refused(&[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), &["neither GGUF nor safetensors"]);
    let missing = r#"{"x":{"dtype":"F32","shape":[1]}}"#;
    header_refused(missing, 4, &["missing field `data_offsets`"]);
}

#[test]
fn names_that_are_there_twice() {
    let (a, b) = (entry("F32", "[1]", "[0,4]"), entry("F32", "[1]", "[4,8]"));
    header_refused(&format!(r#"{{"x":{a},"x":{b}}}"#), 8, &["the name `x` is duplicated"]);
    header_refused(r#"{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4, &["duplicate field"]);
}

#[test]
fn one_tensor() {
    for (dtype, shape, offsets, bytes, words) in [
        ("F33", "[1]", "[0,4]", 4, vec!["the dtype is `F33`"]),
        ("F32", "[-1]", "[0,4]", 4, vec!["invalid value"]),
        ("F32", "[1.5]", "[0,4]", 4, vec!["invalid type"]),
        ("F32", "[1]", "[0,4,8]", 4, vec!["neither"]),
        ("F32", "[1]", "[4,0]", 4, vec!["data_offsets is 4..0", "end before it starts"]),
        ("F32", "[1]", "[0,8]", 4, vec!["data_offsets is 0..8", "within the 4 bytes"]),
        ("F32", "[1]", "[0,18446744073709551615]", 4, vec!["within the 4 bytes"]),
        ("F32", "[1]", "[0,18446744073709551616]", 4, vec!["neither"]),
        ("F32", "[2]", "[0,4]", 4, vec!["data_offsets is 0..4", "a range of 8 bytes, the size of shape [2] in F32"]),
        ("F32", "[1]", "[4,8]", 8, vec!["data_offsets is 4..8", "there is a gap"]),
        ("F32", "[4294967296,4294967296]", "[0,0]", 0, vec!["shape is [4294967296, 4294967296]", "2^64"]),
        ("F32", "[9223372036854775807]", "[0,0]", 0, vec!["shape is", "2^64"]),
        ("F4", "[3]", "[0,2]", 2, vec!["the number of elements is 3", "a multiple of 2"]),
    ] {
        let header = format!(r#"{{"the.tensor":{}}}"#, entry(dtype, shape, offsets));
        header_refused(&header, bytes, &words);
        if !words[0].contains("neither") && !words[0].contains("invalid") {
            header_refused(&header, bytes, &["tensor `the.tensor`"]);
        }
    }
}

#[test]
fn tensors_over_each_other_and_holes() {
    let two = |a: &str, b: &str| format!(r#"{{"x":{},"y":{}}}"#, entry("F32", "[2]", a), entry("F32", "[2]", b));
    header_refused(&two("[0,8]", "[4,12]"), 12, &["tensor `y`", "data_offsets is 4..12", "they overlap"]);
    header_refused(&two("[0,8]", "[0,8]"), 8, &["tensor `y`", "they overlap"]);
    header_refused(&two("[0,8]", "[12,20]"), 20, &["tensor `y`", "data_offsets is 12..20", "there is a gap"]);
    header_refused(&two("[0,8]", "[8,16]"), 24, &["the number of bytes after the header is 24", "16"]);
}

#[test]
fn axes() {
    let header = |axes: usize| {
        let shape = format!("[{}]", vec!["1"; axes].join(","));
        format!(r#"{{"x":{}}}"#, entry("U8", &shape, "[0,1]"))
    };
    assert!(crate::write::inspect(&with_header(&header(64), &[0])).is_ok());
    header_refused(&header(65), 1, &["tensor `x`: the number of axes is 65; it must be at most 64"]);
}

#[test]
fn names_are_fit_to_be_printed() {
    let long = format!("\\u001b[31m{}", "x".repeat(1000));
    let header = format!(r#"{{"{long}":{}}}"#, entry("F33", "[1]", "[0,4]"));
    header_refused(&header, 4, &["`\\u{1b}[31mxxx", "xxx..`"]);
}
