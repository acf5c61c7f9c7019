//! Checks of the tensor descriptions of a loaded program, before any tensor is allocated.

use super::abi::{INPUT, MAX_RANK, Numbering, OUTPUT, TensorInfo, TensorInfoArray};
use crate::error::fault::{Fault, Result};
use crate::neuron::program::TensorSpec;
use std::ffi::{CStr, CString};

/// Checks that a program's tensors match the specifications. Returns the names of the tensors in the program's order:
/// inputs, then outputs.
///
/// # Safety
/// `array` must come from `nrt_get_model_tensor_info` and must not be freed yet.
pub unsafe fn names(
    array: *const TensorInfoArray,
    numbering: Numbering,
    program: &str,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<Vec<CString>> {
    // SAFETY: the caller guarantees that `array` is valid.
    let count = unsafe { (*array).tensor_count };
    let expected = inputs.len() + outputs.len();
    if count != expected as u64 {
        let got = format!("{count}");
        return Err(Fault::mismatch(program, "the number of tensors in the NEFF", got, format!("{expected}")));
    }
    // SAFETY: the array has `tensor_count` entries.
    let infos =
        unsafe { std::slice::from_raw_parts((&raw const (*array).tensor_array).cast::<TensorInfo>(), expected) };
    let mut names = Vec::with_capacity(expected);
    for (usage, what, specs) in [(INPUT, "input", inputs), (OUTPUT, "output", outputs)] {
        let mut found = Vec::new();
        for info in infos.iter().filter(|info| info.usage == usage) {
            found.push((name(info, program)?, info));
        }
        if found.len() != specs.len() {
            let (tensor, got) = (format!("the number of {what}s"), found.len().to_string());
            return Err(Fault::mismatch(program, tensor, got, specs.len().to_string()));
        }
        in_order(&mut found);
        for (number, ((name, info), spec)) in found.into_iter().zip(specs).enumerate() {
            // SAFETY: the library made the entry, with a null or a valid shape.
            let fits = unsafe { check(info, numbering, spec) };
            fits.map_err(|(got, expected)| {
                let tensor = format!("{what} {number}, {},", name.to_string_lossy());
                Fault::mismatch(program, tensor, got, expected)
            })?;
            names.push(name);
        }
    }
    Ok(names)
}

fn name(info: &TensorInfo, program: &str) -> Result<CString> {
    let bytes = info.name.map(|c| c.to_ne_bytes()[0]);
    let name = CStr::from_bytes_until_nul(&bytes).ok().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::mismatch(program, "a tensor's name", "invalid", "NUL-terminated text"))?;
    Ok(name.to_owned())
}

/// Sorts names by their number suffixes if these suffixes are 0 to n - 1, so that `input10` follows `input9`. Otherwise
/// keeps the library's order.
fn in_order<T>(found: &mut [(CString, T)]) {
    let number = |name: &CString| -> Option<usize> {
        let name = name.to_str().ok()?;
        name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..].parse().ok()
    };
    let mut numbers: Vec<_> = found.iter().map(|(name, _)| number(name)).collect();
    numbers.sort_unstable();
    if numbers.iter().enumerate().all(|(at, number)| *number == Some(at)) {
        found.sort_by_key(|(name, _)| number(name));
    }
}

/// Checks that a tensor matches its specification. If it does not, the error has the actual and the required value of
/// the first difference.
///
/// # Safety
/// The entry's shape must be null or as long as its rank.
unsafe fn check(
    info: &TensorInfo,
    numbering: Numbering,
    spec: &TensorSpec,
) -> std::result::Result<(), (String, String)> {
    if info.dtype != numbering.number(spec.dtype) {
        let expected = format!("number {}, which is {:?}", numbering.number(spec.dtype), spec.dtype);
        return Err((format!("of data type number {}", info.dtype), expected));
    }
    if info.ndim > MAX_RANK || info.shape.is_null() && info.ndim > 0 {
        return Err((format!("of rank {}, but has no valid shape", info.ndim), format!("the shape {:?}", spec.shape)));
    }
    let shape: Vec<usize> = match info.ndim {
        0 => Vec::new(),
        // SAFETY: the shape is not null, as checked above. The caller guarantees that a shape that is not null has
        // `ndim` entries.
        rank => unsafe { std::slice::from_raw_parts(info.shape, rank as usize) }.iter().map(|&n| n as usize).collect(),
    };
    // Accept a vector of one element for a scalar, and vice versa.
    let same =
        shape == spec.shape || shape.iter().chain(&spec.shape).all(|&n| n == 1) && shape.len() + spec.shape.len() == 1;
    if !same {
        return Err((format!("of shape {shape:?}"), format!("{:?}", spec.shape)));
    }
    if info.size != spec.bytes() || info.size == 0 {
        return Err((format!("of {} bytes", info.size), format!("{} bytes, with at least one element", spec.bytes())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_tensors_are_in_the_order_of_their_numbers_and_others_as_they_come() {
        let sorted = |names: &[&str]| {
            let mut found: Vec<_> = names.iter().map(|n| (CString::new(*n).unwrap(), ())).collect();
            in_order(&mut found);
            found.into_iter().map(|(n, ())| n.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&["input1", "input0", "input2"]), ["input0", "input1", "input2"]);
        let eleven: Vec<String> = [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9].iter().map(|n| format!("x.{n}")).collect();
        let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
        assert_eq!(sorted(&eleven)[2..].join(" "), "x.2 x.3 x.4 x.5 x.6 x.7 x.8 x.9 x.10");
        assert_eq!(sorted(&["x2", "x1"]), ["x2", "x1"]);
        assert_eq!(sorted(&["weight", "bias"]), ["weight", "bias"]);
        assert_eq!(sorted(&["b", "a0"]), ["b", "a0"]);
    }
}
