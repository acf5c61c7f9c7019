//! Shared memory of a block, which detects races between the block's threads.

use crate::kernel::SHARED_START;
use crate::memory::is_aligned;
use crate::problem::Problem;

/// The last accesses to a cell, which is the smallest unit of shared memory that the kernel accesses.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// Interval of the last write, or 0 if there was none. Barriers of the block separate the intervals.
    written_in: u32,
    writer: u32,
    /// Number of warp barriers that the writer's warp had passed at the last write.
    written_in_warp: u32,
    /// Whether the last write was atomic.
    atomic: bool,
    /// Interval of the last read, and the warps that read in it.
    read_in: u32,
    readers: u32,
    /// Thread that read last, and whether other lanes of its warp have also read since the last barrier of the warp.
    reader: u32,
    several: bool,
    read_in_warp: u32,
}

/// The thread that accesses shared memory.
#[derive(Clone, Copy)]
pub struct By {
    pub thread: u32,
    /// Number of warp barriers that the thread's warp has passed.
    pub in_warp: u32,
}

pub struct Shared {
    /// Number of bytes of the kernel's variables.
    size: usize,
    bytes: Vec<u8>,
    cells: Vec<Cell>,
    /// Base-2 logarithm of the number of bytes of a cell. Shifts take less time than divisions.
    log_grain: u32,
    /// Number of the current interval between barriers. It never decreases, so blocks need not clear the cells.
    interval: u32,
    /// First interval of the current block.
    first: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Atomic,
}

impl Shared {
    /// Creates shared memory whose cells have `grain` bytes, which must be a power of two.
    pub fn new(size: usize, grain: usize) -> Self {
        debug_assert!(grain.is_power_of_two(), "got {grain}");
        let bytes = size.next_multiple_of(16);
        let cells = vec![Cell::default(); bytes / grain];
        Shared { size, bytes: vec![0; bytes], cells, log_grain: grain.trailing_zeros(), interval: 0, first: 0 }
    }

    /// Begins a block, whose shared memory holds arbitrary bytes.
    pub fn begin(&mut self) {
        self.interval += 1;
        self.first = self.interval;
        self.bytes.fill(0xa5);
    }

    /// Begins a new interval, after all threads of the block have passed a barrier.
    pub fn barrier(&mut self) {
        self.interval += 1;
    }

    /// Checks the address of an access. Returns the index of the first accessed byte.
    #[inline(always)]
    fn place(&self, address: u64, bytes: usize, kind: Kind) -> Result<usize, Problem> {
        let at = address.wrapping_sub(SHARED_START);
        if at >= self.size as u64 || at + bytes as u64 > self.size as u64 {
            return Err(Problem::Outside { space: "shared", address, bytes, write: kind != Kind::Read });
        }
        if !is_aligned(address, bytes) {
            return Err(Problem::Misaligned { space: "shared", address, bytes });
        }
        Ok(at as usize)
    }

    /// Reads 1, 2, 4, 8 or 16 bytes.
    #[inline(always)]
    pub fn read(&mut self, address: u64, bytes: usize, by: By, kind: Kind) -> Result<u128, Problem> {
        let at = self.place(address, bytes, kind)?;
        for i in at >> self.log_grain..(at + bytes) >> self.log_grain {
            let cell = &mut self.cells[i];
            let address = || SHARED_START + (i << self.log_grain) as u64;
            if cell.written_in < self.first {
                return Err(Problem::Unwritten { address: address() });
            }
            if let Err(other) = cell.access(self.interval, by, kind, || false) {
                return Err(race(address(), kind, other));
            }
        }
        let from = &self.bytes[at..at + bytes];
        Ok(match bytes {
            1 => from[0].into(),
            2 => u16::from_le_bytes(array(from)).into(),
            4 => u32::from_le_bytes(array(from)).into(),
            8 => u64::from_le_bytes(array(from)).into(),
            _ => u128::from_le_bytes(array(from)),
        })
    }

    /// Writes 1, 2, 4, 8 or 16 bytes. An atomic write must follow an atomic read of the same bytes.
    #[inline(always)]
    pub fn write(&mut self, address: u64, bytes: usize, value: u128, by: By, kind: Kind) -> Result<(), Problem> {
        let at = self.place(address, bytes, kind)?;
        let value = &value.to_le_bytes()[..bytes];
        for i in at >> self.log_grain..(at + bytes) >> self.log_grain {
            let own = i << self.log_grain..(i + 1) << self.log_grain;
            let is_same = || self.bytes[own.clone()] == value[own.start - at..own.end - at];
            if let Err(other) = self.cells[i].access(self.interval, by, kind, is_same) {
                return Err(race(SHARED_START + own.start as u64, kind, other));
            }
        }
        self.bytes[at..at + bytes].copy_from_slice(value);
        Ok(())
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice must have as many bytes as the number")
}

#[cold]
fn race(address: u64, kind: Kind, (other, other_wrote): (u32, bool)) -> Problem {
    Problem::Race { address, write: kind != Kind::Read, other, other_wrote }
}

impl Cell {
    /// Records an access. If another thread's access races with this one, returns an error: the other thread, and
    /// whether it wrote. If the cell only knows the other thread's warp, the error holds the first thread of that warp.
    /// `is_same` returns whether the access writes the bytes that the cell already holds. Such an access does not race
    /// with the last write.
    #[inline(always)]
    fn access(&mut self, interval: u32, by: By, kind: Kind, is_same: impl Fn() -> bool) -> Result<(), (u32, bool)> {
        let warp = by.thread / 32;
        let write = kind != Kind::Read;
        let both_atomic = kind == Kind::Atomic && self.atomic;
        if self.written_in == interval && self.writer != by.thread && !both_atomic {
            let same_warp = self.writer / 32 == warp;
            if (!same_warp || self.written_in_warp == by.in_warp) && !is_same() {
                return Err((self.writer, true));
            }
        }
        if write && self.read_in == interval {
            if self.readers & !(1 << warp) != 0 {
                let other = (self.readers & !(1 << warp)).trailing_zeros();
                return Err((32 * other, false));
            }
            if self.read_in_warp == by.in_warp && (self.several || self.reader != by.thread) {
                return Err((self.reader, false));
            }
        }
        if write {
            self.written_in = interval;
            self.writer = by.thread;
            self.written_in_warp = by.in_warp;
            self.atomic = kind == Kind::Atomic;
        } else {
            let again = self.read_in == interval;
            let others = again && self.reader / 32 == warp && self.read_in_warp == by.in_warp;
            self.several = others && (self.several || self.reader != by.thread);
            self.readers = if again { self.readers } else { 0 } | 1 << warp;
            (self.read_in, self.read_in_warp) = (interval, by.in_warp);
            self.reader = by.thread;
        }
        Ok(())
    }
}
