//! Global memory: the ranges of host memory that a kernel may access.

use crate::problem::Problem;

/// Ranges of host memory that kernels may read, or read and write.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Ranges sorted by their start, without overlaps.
    ranges: Vec<Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
    writable: bool,
}

impl Memory {
    /// Creates a value without ranges.
    pub const fn new() -> Self {
        Memory { ranges: Vec::new() }
    }

    /// Adds a range. Older ranges that overlap this one are removed, because their memory must have been freed.
    pub fn add(&mut self, start: u64, bytes: usize, writable: bool) {
        if bytes == 0 {
            return;
        }
        let end = start + bytes as u64;
        self.ranges.retain(|range| range.end <= start || end <= range.start);
        let at = self.ranges.partition_point(|range| range.start < start);
        self.ranges.insert(at, Range { start, end, writable });
    }

    /// Removes the range that starts at this address.
    pub fn remove(&mut self, start: u64) {
        self.ranges.retain(|range| range.start != start);
    }

    fn find(&self, address: u64) -> Option<Range> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        self.ranges.get(after.checked_sub(1)?).copied()
    }
}

/// Returns whether the address is a multiple of the number of bytes, which must be a power of two.
#[inline(always)]
pub fn is_aligned(address: u64, bytes: usize) -> bool {
    address & (bytes as u64 - 1) == 0
}

/// Global memory as a kernel sees it.
pub struct Global<'m> {
    memory: &'m Memory,
    /// Range that was accessed last.
    last: Range,
}

impl<'m> Global<'m> {
    /// # Safety
    /// All ranges may be read, and the writable ranges may be written. No other thread accesses their memory.
    pub unsafe fn new(memory: &'m Memory) -> Self {
        Global { memory, last: Range { start: 0, end: 0, writable: false } }
    }

    fn check(&mut self, address: u64, bytes: usize, write: bool) -> Result<*mut u8, Problem> {
        if !is_aligned(address, bytes) {
            return Err(Problem::Misaligned { space: "global", address, bytes });
        }
        let within = |range: &Range| {
            address >= range.start
                && address < range.end
                && range.end - address >= bytes as u64
                && (range.writable || !write)
        };
        if !within(&self.last) {
            let outside = Problem::Outside { space: "global", address, bytes, write };
            self.last = self.memory.find(address).filter(within).ok_or(outside)?;
        }
        Ok(std::ptr::with_exposed_provenance_mut(address as usize))
    }

    /// Reads 1, 2, 4, 8 or 16 bytes.
    #[inline(always)]
    pub fn read(&mut self, address: u64, bytes: usize) -> Result<u128, Problem> {
        let from = self.check(address, bytes, false)?;
        // SAFETY: the bytes are in a range that may be read, and the address is a multiple of `bytes`.
        Ok(unsafe {
            match bytes {
                1 => from.read().into(),
                2 => from.cast::<u16>().read().into(),
                4 => from.cast::<u32>().read().into(),
                8 => from.cast::<u64>().read().into(),
                _ => from.cast::<u128>().read(),
            }
        })
    }

    /// Writes 1, 2, 4, 8 or 16 bytes.
    #[inline(always)]
    pub fn write(&mut self, address: u64, bytes: usize, value: u128) -> Result<(), Problem> {
        let to = self.check(address, bytes, true)?;
        // SAFETY: the bytes are in a range that may be written, and the address is a multiple of `bytes`.
        unsafe {
            match bytes {
                1 => to.write(value as u8),
                2 => to.cast::<u16>().write(value as u16),
                4 => to.cast::<u32>().write(value as u32),
                8 => to.cast::<u64>().write(value as u64),
                _ => to.cast::<u128>().write(value),
            }
        }
        Ok(())
    }
}
