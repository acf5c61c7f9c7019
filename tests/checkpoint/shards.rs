//! Tests of checkpoints with several files.

use crate::write::{Gguf, Tensor, inspect_path, safetensors};
use std::path::Path;
use tempfile::TempDir;

fn tensor(name: &str) -> Tensor {
    Tensor::floats(name, "F32", &[2], &[1.0, 2.0])
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a temporary file must be written");
    }
    folder
}

fn two() -> Vec<(&'static str, Vec<u8>)> {
    vec![("b.safetensors", safetensors(&[tensor("y"), tensor("z")])), ("a.safetensors", safetensors(&[tensor("x")]))]
}

fn names(path: &Path) -> Vec<String> {
    inspect_path(path).expect("the checkpoint of several files must be valid").into_iter().map(|one| one.name).collect()
}

#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let error = inspect_path(path).expect_err("the checkpoint must be rejected").to_string();
    words.iter().for_each(|word| assert!(error.contains(word), "the error must contain {word:?}, got {error:?}"));
}

const INDEX: &str = "model.safetensors.index.json";

fn indexed(map: &str) -> TempDir {
    let mut files = two();
    files.push((INDEX, format!("{{\"metadata\":{{\"total_size\":24}},\"weight_map\":{map}}}").into_bytes()));
    files.push(("other.safetensors", b"not one of them".to_vec()));
    folder(&files)
}

#[test]
fn an_index() {
    let folder = indexed(r#"{"x":"a.safetensors","y":"b.safetensors","z":"b.safetensors"}"#);
    assert_eq!(names(folder.path()), ["x", "y", "z"]);
    assert_eq!(names(&folder.path().join(INDEX)), ["x", "y", "z"]);
}

#[test]
fn a_folder_without_an_index() {
    assert_eq!(names(folder(&two()).path()), ["x", "y", "z"]);
    let gguf = Gguf::new(vec![(tensor("w"), 0)]).bytes();
    assert_eq!(names(folder(&[("one.gguf", gguf.clone())]).path()), ["w"]);
    refused(folder(&[("one.gguf", gguf.clone()), ("two.gguf", gguf)]).path(), &["2 .gguf files", "open one"]);
    refused(folder(&[("readme.md", vec![])]).path(), &["no .safetensors and no .gguf file"]);
}

#[test]
fn an_index_that_is_wrong() {
    for (map, words) in [
        (r#"{"x":"b.safetensors"}"#, vec!["tensor `x`", "`b.safetensors`, which does not contain the tensor"]),
        (r#"{"v":"a.safetensors"}"#, vec!["tensor `v`", "`a.safetensors`, which does not contain the tensor"]),
        (r#"{"x":"c.safetensors"}"#, vec!["c.safetensors", "cannot be opened"]),
        (r#"{"x":"../a.safetensors"}"#, vec!["`../a.safetensors`", "in the index's folder"]),
        (r#"{"x":"/etc/passwd"}"#, vec!["`/etc/passwd`", "in the index's folder"]),
        (r#"{"x":".."}"#, vec!["`..`", "in the index's folder"]),
        (r#"{"x":"other.safetensors"}"#, vec!["other.safetensors", "the header's length"]),
        (r#"{"x":"b.safetensors","x":"a.safetensors"}"#, vec!["the name `x` is duplicated"]),
        (r#"{"x":"\u001b[31mfoo"}"#, vec!["`\\u{1b}[31mfoo`", "no control characters"]),
        (r#"{"__metadata__":"a.safetensors"}"#, vec!["`__metadata__`", "does not contain the tensor"]),
        (r#"{}"#, vec!["the number of files is 0"]),
        (r#"{"x":1}"#, vec!["not an index"]),
        (r#"[]"#, vec!["not an index"]),
    ] {
        refused(indexed(map).path(), &words);
    }
    refused(folder(&[("i.json", b"{".to_vec())]).path().join("i.json").as_path(), &["not an index"]);
}

#[test]
fn a_tensor_in_two_files() {
    let twice =
        folder(&[("a.safetensors", safetensors(&[tensor("x")])), ("b.safetensors", safetensors(&[tensor("x")]))]);
    refused(twice.path(), &["b.safetensors: tensor `x`", "also in ", "a.safetensors", "unique to one file"]);
}

#[test]
fn what_is_not_there() {
    refused(Path::new("/nowhere/at.all"), &["/nowhere/at.all", "cannot be opened"]);
    #[cfg(unix)]
    refused(Path::new("/dev/null"), &["the path is not a regular file"]);
}
