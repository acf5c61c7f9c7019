//! Conversion of a candle tensor on the CPU to the views that kernels take.
//!
//! A lane is a run of elements along one axis, and a block holds the elements of that axis and of all later axes.
//! Kernels require blocks that are contiguous and equally spaced. Tensors have such blocks if they are contiguous, or
//! if they are narrowed or strided along one of the axes before the lanes' axis. [`readable`] copies a tensor with any
//! other layout.

#![forbid(unsafe_code)]

use crate::element::Element;
use crate::floats::Floats;
use crate::heads::Heads;
use crate::rows::{Lanes, MAX_RANK, Rows};
use candle_core::backend::BackendStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Error, Layout, Result, Shape, Storage, Tensor, WithDType};

/// Storage and layout of a tensor, as candle passes them to a custom op.
pub struct View<'a, S = CpuStorage> {
    pub storage: &'a S,
    pub layout: &'a Layout,
}

// `Clone` and `Copy` are not derived, because derived implementations would require that `S` is `Copy`.
impl<S> Clone for View<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for View<'_, S> {}

impl<'a, S: BackendStorage> View<'a, S> {
    pub fn shape(&self) -> &'a Shape {
        self.layout.shape()
    }

    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }
}

/// Evaluates one expression for the view's element type, and wraps the result in storage of that type.
macro_rules! map_storage {
    ($op:expr, $view:expr, $data:ident => $values:expr) => {{
        use candle_core::CpuStorage;
        match $view.storage {
            CpuStorage::F64($data) => CpuStorage::F64($values),
            CpuStorage::F32($data) => CpuStorage::F32($values),
            CpuStorage::F16($data) => CpuStorage::F16($values),
            CpuStorage::BF16($data) => CpuStorage::BF16($values),
            _ => return Err($view.unsupported($op)),
        }
    }};
}
pub(crate) use map_storage;

impl<'a> View<'a> {
    /// Returns candle's error for a storage type that the op does not support.
    pub fn unsupported(&self, op: &'static str) -> Error {
        Error::UnsupportedDTypeForOp(self.dtype(), op).bt()
    }

    /// Returns the lanes along an axis. The tensor must come from [`readable`] for that axis.
    pub fn lanes<E: Element>(&self, data: &'a [E], axis: usize) -> Result<Lanes<'a, E>> {
        let (data, dims, axis, stride) = self.blocks(data, axis)?;
        Ok(Lanes::spaced(data, &dims, axis, stride)?)
    }

    /// Returns the rows along the last axis. The tensor must come from [`readable`] for that axis.
    pub fn rows<E: Element>(&self, data: &'a [E]) -> Result<Rows<'a, E>> {
        let (data, dims, _, stride) = self.blocks(data, self.shape().rank().saturating_sub(1))?;
        Ok(Rows::spaced(data, &dims, stride)?)
    }

    /// Returns the heads of a tensor of rank 4. The tensor must come from [`readable_heads`].
    pub fn heads<E: Element>(&self, data: &'a [E]) -> Result<Heads<'a, E>> {
        let (&[batch, heads, positions, features], &[of_batch, of_head, of_position, _]) =
            (self.shape().dims(), self.layout.stride())
        else {
            return Err(Error::RequiresContiguous { op: "view" }.bt());
        };
        let shape = [batch, heads, positions, features];
        if shape.contains(&0) {
            return Ok(Heads::new(&[], shape)?);
        }
        Ok(Heads::strided(&data[self.layout.start_offset()..], shape, [of_batch, of_head, of_position])?)
    }

    /// Returns the storage as a slice. The last argument only selects the element type.
    pub fn like<E: WithDType>(&self, op: &'static str, _: &[E]) -> Result<&'a [E]> {
        E::cpu_storage_as_slice(self.storage).map_err(|_| self.unsupported(op))
    }

    /// Returns the elements of a contiguous tensor.
    pub fn elements<E>(&self, op: &'static str, data: &'a [E]) -> Result<&'a [E]> {
        self.contiguous(data).ok_or_else(|| Error::RequiresContiguous { op }.bt())
    }

    /// Returns the elements as a slice if the tensor is contiguous.
    pub fn contiguous<E>(&self, data: &'a [E]) -> Option<&'a [E]> {
        self.layout.contiguous_offsets().map(|(start, end)| if start < end { &data[start..end] } else { &[] })
    }

    /// Returns the elements of a contiguous operand of any supported float type.
    pub fn floats(&self, op: &'static str) -> Result<Floats<'a>> {
        let floats = match self.storage {
            CpuStorage::F64(data) => self.contiguous(data).map(Floats::F64),
            CpuStorage::F32(data) => self.contiguous(data).map(Floats::F32),
            CpuStorage::F16(data) => self.contiguous(data).map(Floats::F16),
            CpuStorage::BF16(data) => self.contiguous(data).map(Floats::BF16),
            _ => return Err(self.unsupported(op)),
        };
        floats.ok_or_else(|| Error::RequiresContiguous { op }.bt())
    }

    /// Returns four things: the view's elements, their shape, the axis of the lanes in this shape, and the stride of
    /// blocks. If the view has more than [`MAX_RANK`] axes, the returned shape merges the axes before the lanes' axis
    /// into one axis, and the axes after it into another.
    fn blocks<E>(&self, data: &'a [E], axis: usize) -> Result<(&'a [E], Vec<usize>, usize, usize)> {
        let dims = self.shape().dims();
        let stride = block_stride(self.layout, axis).ok_or(Error::RequiresContiguous { op: "view" })?;
        let (outer, block) = dims.split_at(axis);
        let (blocks, block) = (outer.iter().product::<usize>(), block.iter().product::<usize>());
        // An empty view may start past the end of the storage.
        let data = match (blocks * block, self.layout.start_offset()) {
            (0, _) => &data[..0],
            (_, start) => &data[start..][..(blocks - 1) * stride + block],
        };
        if dims.len() <= MAX_RANK {
            return Ok((data, dims.to_vec(), axis, stride));
        }
        let mut folded = vec![blocks, dims[axis]];
        if axis + 1 < dims.len() {
            folded.push(dims[axis + 1..].iter().product());
        }
        Ok((data, folded, 1, stride))
    }
}

/// Returns the tensor, or a contiguous copy if kernels cannot read its lanes along the axis. CUDA kernels read only
/// contiguous tensors.
pub fn readable(xs: &Tensor, axis: usize) -> Result<Tensor> {
    let is_readable = xs.device().is_cpu() && block_stride(xs.layout(), axis).is_some();
    if is_readable { Ok(xs.clone()) } else { xs.contiguous() }
}

/// Returns the tensor, or a contiguous copy if its last axis does not have stride 1.
pub fn readable_heads(xs: &Tensor) -> Result<Tensor> {
    let (dims, strides) = (xs.dims(), xs.layout().stride());
    let apart = dims.last().is_some_and(|&dim| dim > 1) && strides.last() != Some(&1);
    if apart { xs.contiguous() } else { Ok(xs.clone()) }
}

/// Calls `f` with views of tensors on the CPU.
pub fn with_views<R>(op: &'static str, tensors: &[&Tensor], f: impl FnOnce(&[View<'_>]) -> Result<R>) -> Result<R> {
    with_storages(tensors, |storages| {
        let views = storages.iter().map(|(storage, layout)| match storage {
            Storage::Cpu(storage) => Ok(View { storage, layout }),
            _ => Err(Error::Msg(format!("{op}: an operand is not on the CPU")).bt()),
        });
        f(&views.collect::<Result<Vec<_>>>()?)
    })
}

/// Calls `f` with the storages and layouts of tensors. A storage that several tensors share is locked only once. A
/// second read lock would wait forever if another thread requested a write lock after the first read lock.
pub fn with_storages<R>(tensors: &[&Tensor], f: impl FnOnce(&[(&Storage, &Layout)]) -> R) -> R {
    let addresses: Vec<*const Storage> = tensors.iter().map(|tensor| address(tensor)).collect();
    let first = |i: usize| addresses[..i].iter().position(|address| *address == addresses[i]).unwrap_or(i);
    let locked: Vec<_> =
        tensors.iter().enumerate().map(|(i, tensor)| (first(i) == i).then(|| tensor.storage_and_layout().0)).collect();
    let storages = tensors.iter().enumerate();
    let storages = storages.filter_map(|(i, tensor)| Some((&**locked[first(i)].as_ref()?, tensor.layout())));
    f(&storages.collect::<Vec<_>>())
}

/// Returns the address of a tensor's storage. Tensors that share memory have the same address.
pub fn address(tensor: &Tensor) -> *const Storage {
    &raw const *tensor.storage_and_layout().0
}

/// Wraps storage in a tensor that candle does not track.
pub fn tensor(storage: Storage, shape: &Shape) -> Tensor {
    Tensor::from_storage(storage, shape.clone(), BackpropOp::none(), false)
}

/// Returns the stride of the blocks, which have the shape `dims[axis..]`. Returns `None` unless blocks are contiguous,
/// in order, equally spaced and without overlap.
fn block_stride(layout: &Layout, axis: usize) -> Option<usize> {
    let (dims, strides) = (layout.dims(), layout.stride());
    if dims.contains(&0) {
        return Some(dims[axis..].iter().product());
    }
    // The stride of an axis of length 1 is never used, so it may have any value.
    let long = |range: std::ops::Range<usize>| range.rev().map(|i| (dims[i], strides[i])).filter(|(dim, _)| *dim > 1);
    let mut block = 1;
    for (dim, stride) in long(axis..dims.len()) {
        if stride != block {
            return None;
        }
        block *= dim;
    }
    let mut outer = long(0..axis);
    let Some((dim, apart)) = outer.next() else {
        return Some(block);
    };
    let mut next = dim * apart;
    for (dim, stride) in outer {
        if stride != next {
            return None;
        }
        next *= dim;
    }
    (apart >= block).then_some(apart)
}

#[cfg(test)]
mod tests {
    use super::{readable, readable_heads, with_views};
    use candle_core::{DType, Device, Result, Tensor};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    /// Returns whether [`readable`] returns the tensor itself, without a copy.
    fn as_it_lies(xs: &Tensor, axis: usize) -> bool {
        readable(xs, axis).is_ok_and(|read| read.id() == xs.id())
    }

    #[test]
    fn only_what_kernels_can_not_read_is_copied() -> Result<()> {
        let x = Tensor::zeros((2, 3, 4, 5), DType::F32, &Device::Cpu)?;
        for axis in 0..4 {
            assert!(as_it_lies(&x, axis));
            assert!(as_it_lies(&x.narrow(0, 1, 1)?, axis));
        }
        // A narrowed tensor is read without a copy only if its rows or blocks stay equally spaced.
        assert!(as_it_lies(&x.narrow(3, 1, 3)?, 3));
        assert!(as_it_lies(&x.narrow(2, 1, 3)?, 2));
        assert!(as_it_lies(&x.narrow(2, 1, 1)?, 3));
        assert!(!as_it_lies(&x.narrow(2, 1, 3)?, 3));
        // Blocks are copied if they have gaps inside, are transposed, or are not equally spaced. An axis of length 1
        // does not matter.
        assert!(!as_it_lies(&x.narrow(3, 1, 3)?, 2));
        assert!(!as_it_lies(&x.transpose(2, 3)?, 3));
        assert!(!as_it_lies(&x.transpose(0, 1)?, 3));
        assert!(as_it_lies(&x.narrow(0, 0, 1)?.transpose(0, 1)?, 3));
        // Heads may be in any order in memory, and may share memory. Only a transposed last axis requires a copy.
        let heads = |xs: &Tensor| readable_heads(xs).is_ok_and(|read| read.id() == xs.id());
        assert!(heads(&x.transpose(0, 1)?) && heads(&x.transpose(1, 2)?) && heads(&x.narrow(3, 1, 3)?));
        assert!(heads(&x.narrow(1, 0, 1)?.broadcast_as((2, 3, 4, 5))?) && !heads(&x.transpose(2, 3)?));
        // Overlapping rows are copied; an empty tensor is not.
        assert!(!as_it_lies(&x.narrow(2, 0, 1)?.broadcast_as((2, 3, 4, 5))?, 3));
        assert!(as_it_lies(&x.narrow(0, 2, 0)?.transpose(1, 3)?, 3));
        Ok(())
    }

    /// Passes a tensor to an op twice while another thread writes to it. If the op locked the storage twice, it could
    /// wait forever: a second read lock waits for a writer, and the writer waits for the first read lock.
    #[test]
    fn a_storage_of_several_tensors_is_locked_once() -> Result<()> {
        let x = Tensor::zeros((4, 8), DType::F32, &Device::Cpu)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (writer, until) = (x.clone(), is_over.clone());
        let writes = std::thread::spawn(move || {
            let row = Tensor::ones((1, 8), DType::F32, &Device::Cpu)?;
            while !until.load(Relaxed) {
                writer.slice_set(&row, 0, 1)?;
            }
            Ok::<(), candle_core::Error>(())
        });
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            let part = x.narrow(0, 0, 2)?;
            for _ in 0..20_000 {
                with_views("test", &[&x, &part, &x], |views| {
                    assert!(std::ptr::eq(views[0].storage, views[2].storage) && views.len() == 3);
                    Ok(())
                })?;
            }
            let _ = ended.send(());
            Ok::<(), candle_core::Error>(())
        });
        assert!(
            end.recv_timeout(Duration::from_secs(60)).is_ok(),
            "locking the shared storage must succeed within 60 s"
        );
        is_over.store(true, Relaxed);
        writes.join().expect("the writing thread must not panic")
    }
}
