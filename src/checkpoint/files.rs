//! The files of a checkpoint: a single file, the files that an index names, or the files in a folder.

use super::error::{Error, Result, shown};
use super::safetensors::Entries;
use super::tensor::Tensor;
use super::{gguf, safetensors};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// File name of the index in a folder of shards.
const INDEX: &str = "model.safetensors.index.json";
/// Maximum length of a file name in characters. No common file system allows longer names.
const LONGEST_NAME: usize = 255;

/// Returns the files of a checkpoint, and the tensors of all files in the order of the files.
pub(crate) fn open(path: &Path) -> Result<(Vec<PathBuf>, Vec<Tensor>)> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::read(path, "the path cannot be opened", e))?;
    if metadata.is_dir() {
        let index = path.join(INDEX);
        return if index.is_file() { of_index(&index) } else { of_files(in_folder(path)?) };
    }
    let is_index = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_index { of_index(path) } else { of_files(vec![path.into()]) }
}

/// Returns the files of a folder without an index: all safetensors files or, if there are none, the only GGUF file.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::read(folder, "the folder cannot be listed", e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut files =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>().map_err(failed)?;
    files.sort();
    let with = |extension: &str| -> Vec<PathBuf> {
        files.iter().filter(|file| file.extension().is_some_and(|found| found == extension)).cloned().collect()
    };
    match (with("safetensors"), with("gguf")) {
        (shards, _) if !shards.is_empty() => Ok(shards),
        (_, one) if one.len() == 1 => Ok(one),
        (_, none) if none.is_empty() => Err(Error::format(folder, "the folder has no .safetensors and no .gguf file")),
        (_, many) => Err(Error::format(folder, format!("the folder has {} .gguf files; open one of them", many.len()))),
    }
}

fn of_files(files: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Vec<Tensor>)> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for (number, path) in files.iter().enumerate() {
        tensors.extend(read(path, number)?);
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    for tensor in &tensors {
        if let Some(other) = first.insert(&tensor.name, tensor.file) {
            let value = format!("also in {}", files[other].display());
            return Err(Error::tensor(&files[tensor.file], &tensor.name, "the name", value, "unique to one file"));
        }
    }
    Ok((files, tensors))
}

/// Reads the header of a safetensors or GGUF file, and returns the tensors that it describes.
fn read(path: &Path, number: usize) -> Result<Vec<Tensor>> {
    let (mut file, length) = opened(path)?;
    let failed = |e| Error::read(path, "the header", e);
    let mut magic = Vec::new();
    (&mut file).take(gguf::MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    if magic == gguf::MAGIC {
        gguf::read(path, number, file, length)
    } else {
        safetensors::read(path, number, file, length)
    }
}

/// Opens a file, and returns it with its length.
fn opened(path: &Path) -> Result<(File, u64)> {
    let failed = |e| Error::read(path, "the path cannot be opened", e);
    // The type of the file is checked before it is opened, because opening a pipe could block.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::format(path, "the path is not a regular file"));
    }
    Ok((File::open(path).map_err(failed)?, metadata.len()))
}

/// Contents of an index: the file of each tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: Entries<String, false>,
}

fn of_index(path: &Path) -> Result<(Vec<PathBuf>, Vec<Tensor>)> {
    let (file, length) = opened(path)?;
    if length > safetensors::LONGEST_HEADER {
        let limit = format!("at most {}, the longest supported index", safetensors::LONGEST_HEADER);
        return Err(Error::header(path, "the index's length", length, limit));
    }
    let mut json = Vec::new();
    file.take(length).read_to_end(&mut json).map_err(|e| Error::read(path, "the index", e))?;
    let index: Index = serde_json::from_slice(&json)
        .map_err(|e| Error::format(path, format!("the file is not an index that maps tensors to files: {e}")))?;
    let weight_map = index.weight_map.unique(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut names: Vec<&String> = weight_map.iter().map(|(_, file)| file).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(Error::header(path, "the number of files", 0, "at least 1"));
    }
    // Files must be in the folder of the index; paths to other folders are rejected. Later errors show the name as it
    // is.
    let is_plain = |name: &str| {
        let is_short = name.chars().count() <= LONGEST_NAME && !name.contains(char::is_control);
        is_short && Path::new(name).file_name().is_some_and(|file| file == name)
    };
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        let limit = format!(
            "the name of a file in the index's folder, with at most {LONGEST_NAME} characters and no control characters"
        );
        return Err(Error::header(path, "the name of a file", shown(name), limit));
    }
    let (files, tensors) = of_files(names.iter().map(|name| folder.join(name)).collect())?;
    let found: HashMap<&str, usize> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.file)).collect();
    for (tensor, file) in &weight_map {
        if found.get(tensor.as_str()).is_none_or(|&number| names[number] != file) {
            return Err(Error::tensor(
                path,
                tensor,
                "the file",
                format!("{}, which does not contain the tensor", shown(file)),
                "a file that contains the tensor",
            ));
        }
    }
    Ok((files, tensors))
}
