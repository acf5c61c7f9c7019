//! Hand-written subset of libnrt's public headers. The layouts are for 64-bit Unix. They are the same in the headers
//! from 2022 to 2026, but the numbers that denote element types differ.

#![forbid(unsafe_code)]

use crate::neuron::ElementType;
use std::ffi::{c_char, c_int, c_void};

/// `NRT_STATUS`.
pub type Status = c_int;

/// `nrt_framework_type_t` for no framework.
pub const NO_FRAMEWORK: c_int = 1;
/// `nrt_tensor_placement_t` for a tensor on the device.
pub const ON_DEVICE: c_int = 0;
/// `nrt_tensor_usage_t` for an input.
pub const INPUT: u32 = 0;
/// `nrt_tensor_usage_t` for an output.
pub const OUTPUT: u32 = 1;
/// Largest rank that is accepted in the description of a tensor.
pub const MAX_RANK: u32 = 32;

/// `nrt_model_t`, an opaque handle.
#[repr(C)]
pub struct Model {
    _opaque: [u8; 0],
}

/// `nrt_tensor_t`, an opaque handle.
#[repr(C)]
pub struct Tensor {
    _opaque: [u8; 0],
}

/// `nrt_tensor_set_t`, an opaque handle.
pub type TensorSet = c_void;

/// `nrt_tensor_info_t`: description of a model's input or output.
#[repr(C)]
pub struct TensorInfo {
    pub name: [c_char; 256],
    pub usage: u32,
    pub size: usize,
    pub dtype: u32,
    pub shape: *mut u32,
    pub ndim: u32,
}

/// `nrt_tensor_info_array_t`, with `tensor_count` entries.
#[repr(C)]
pub struct TensorInfoArray {
    pub tensor_count: u64,
    pub tensor_array: [TensorInfo; 0],
}

/// `nrt_version_t`.
#[repr(C)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub maintenance: u64,
    pub detail: [c_char; 128],
    pub git_hash: [c_char; 64],
}

/// `nrt_instance_info_t`.
#[repr(C)]
pub struct InstanceInfo {
    pub family: u32,
    pub size: u32,
    pub arch_name: [c_char; 16],
    pub device_revision: [c_char; 8],
}

// Sizes and offsets that a C compiler produced for the public headers.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::{align_of, offset_of, size_of};
    assert!(size_of::<TensorInfo>() == 296 && align_of::<TensorInfo>() == 8);
    assert!(offset_of!(TensorInfo, usage) == 256 && offset_of!(TensorInfo, size) == 264);
    assert!(offset_of!(TensorInfo, dtype) == 272 && offset_of!(TensorInfo, shape) == 280);
    assert!(offset_of!(TensorInfo, ndim) == 288);
    assert!(size_of::<TensorInfoArray>() == 8 && align_of::<TensorInfoArray>() == 8);
    assert!(offset_of!(TensorInfoArray, tensor_array) == 8);
    assert!(size_of::<Version>() == 224 && align_of::<Version>() == 8);
    assert!(offset_of!(Version, detail) == 32 && offset_of!(Version, git_hash) == 160);
    assert!(size_of::<InstanceInfo>() == 32 && align_of::<InstanceInfo>() == 4);
    assert!(offset_of!(InstanceInfo, arch_name) == 8 && offset_of!(InstanceInfo, device_revision) == 24);
};

/// Numbering of element types, which differs between old and new libraries. For example, 1 denotes f32 in old libraries
/// and a 64-bit unsigned integer in new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Numbering in the headers of 2022 and 2023, whose functions count physical cores, not virtual ones.
    Old,
    /// Numbering in the headers from 2024 on.
    New,
}

impl Numbering {
    /// Returns the `nrt_dtype_t` of a type.
    pub fn number(self, dtype: ElementType) -> u32 {
        match (self, dtype) {
            (Numbering::New, ElementType::U8) => 3,
            (Numbering::New, ElementType::BF16) => 6,
            (Numbering::New, ElementType::F16) => 7,
            (Numbering::New, ElementType::F32) => 10,
            (Numbering::Old, ElementType::F32) => 1,
            (Numbering::Old, ElementType::F16) => 2,
            (Numbering::Old, ElementType::BF16) => 3,
            (Numbering::Old, ElementType::U8) => 5,
            (_, ElementType::S32) => 8,
        }
    }
}
