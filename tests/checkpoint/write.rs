//! Writes valid files for tests, and the parts of invalid files.

use evenkeel::checkpoint::{Checkpoint, Error, Inspected};
use half::{bf16, f16};
use serde_json::json;
use std::path::Path;
use tempfile::NamedTempFile;

/// Tensor of a file. The last axis is the innermost.
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn new(name: &str, dtype: &'static str, shape: &[u64], bytes: Vec<u8>) -> Self {
        Tensor { name: name.into(), dtype, shape: shape.to_vec(), bytes }
    }

    /// Creates a tensor of values rounded to F64, F32, F16 or BF16.
    pub fn floats(name: &str, dtype: &'static str, shape: &[u64], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|&x| match dtype {
            "F64" => x.to_le_bytes().to_vec(),
            "F32" => (x as f32).to_le_bytes().to_vec(),
            "F16" => f16::from_f64(x).to_le_bytes().to_vec(),
            "BF16" => bf16::from_f64(x).to_le_bytes().to_vec(),
            other => panic!("the test tensor must be in F64, F32, F16 or BF16, got {other}"),
        });
        Tensor::new(name, dtype, shape, bytes.collect())
    }
}

/// Creates a safetensors file with this header, followed by these bytes.
pub fn with_header(header: &str, bytes: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), bytes].concat()
}

pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::from_iter([("__metadata__".to_string(), json!({"format": "pt"}))]);
    let mut bytes = Vec::new();
    for tensor in tensors {
        let offsets = [bytes.len(), bytes.len() + tensor.bytes.len()];
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets});
        assert!(
            header.insert(tensor.name.clone(), entry).is_none(),
            "the test file must have one tensor of each name, got {} twice",
            tensor.name
        );
        bytes.extend(&tensor.bytes);
    }
    with_header(&serde_json::Value::Object(header).to_string(), &bytes)
}

pub struct Gguf {
    pub version: u32,
    pub metadata: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<(Tensor, u32, u64)>,
    pub alignment: u64,
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    /// Creates a file with the tensors at their correct offsets. Each tensor is paired with the GGUF number of its
    /// type.
    pub fn new(tensors: Vec<(Tensor, u32)>) -> Self {
        let (alignment, mut end) = (32, 0u64);
        let place = |(tensor, id): (Tensor, u32)| {
            let offset = end.next_multiple_of(alignment);
            end = offset + tensor.bytes.len() as u64;
            (tensor, id, offset)
        };
        let tensors = tensors.into_iter().map(place).collect();
        Gguf { version: 3, metadata: vec![("general.architecture".into(), 8, text("llama"))], tensors, alignment }
    }

    pub fn with(mut self, key: &str, kind: u32, value: Vec<u8>) -> Self {
        self.metadata.push((key.into(), kind, value));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.metadata {
            file.extend(text(key));
            file.extend(kind.to_le_bytes());
            file.extend(value);
        }
        for (tensor, id, offset) in &self.tensors {
            file.extend(text(&tensor.name));
            file.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|axis| file.extend(axis.to_le_bytes()));
            file.extend(id.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        let data = (file.len() as u64).next_multiple_of(self.alignment);
        for (tensor, _, offset) in &self.tensors {
            file.resize((data + offset) as usize, 0);
            file.extend(&tensor.bytes);
        }
        file
    }
}

/// Creates a temporary file with these bytes. The file is deleted when the returned value is dropped.
pub fn file(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file must be created");
    std::fs::write(file.path(), bytes).expect("a temporary file must be written");
    file
}

pub fn inspect(bytes: &[u8]) -> Result<Vec<Inspected>, Error> {
    let file = file(bytes);
    inspect_path(file.path())
}

pub fn inspect_path(path: &Path) -> Result<Vec<Inspected>, Error> {
    Checkpoint::open(path)?.inspect()
}

/// Fails unless a file with these bytes is rejected with an error that contains these words.
#[track_caller]
pub fn refused(bytes: &[u8], words: &[&str]) {
    let error = inspect(bytes).expect_err("the file must be rejected").to_string();
    for word in words {
        assert!(error.contains(word), "the error must contain {word:?}, got {error:?}");
    }
}

/// Returns approximately normal numbers with mean 0 and this standard deviation. Each call returns the same numbers.
pub fn normals(seed: u64, count: usize, deviation: f64) -> Vec<f64> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let scale = deviation * 3f64.sqrt();
    (0..count).map(|_| scale * ((0..4).map(|_| uniform()).sum::<f64>() - 2.0)).collect()
}
