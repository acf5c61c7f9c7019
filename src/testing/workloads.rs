//! The rows that this project's benchmarks use, so that other engines can be measured on the same data.
//!
//! ```
//! use evenkeel::testing::workloads::{ACTIVATIONS, Workload};
//! use half::bf16;
//!
//! for workload in ACTIVATIONS {
//!     let x: Vec<bf16> = workload.numbers();
//!     // criterion: benchmark_group(workload.group::<bf16>("softmax")), throughput(Bytes(workload.bytes::<bf16>()))
//!     assert_eq!(x.len(), workload.elements());
//!     assert_eq!(workload.bytes::<bf16>(), 4 * workload.elements() as u64); // each number is read and written
//! }
//! assert_eq!(ACTIVATIONS[0].group::<bf16>("softmax"), "softmax/BF16/8x4096");
//! ```

use crate::element::Element;

/// Rows of numbers, which are the same in every run and on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Workload {
    /// Name of the workload.
    pub name: &'static str,
    /// Number of rows.
    pub rows: usize,
    /// Length of each row.
    pub cols: usize,
}

/// Activations: rows that fit in the L2 cache, and rows that do not.
pub const ACTIVATIONS: [Workload; 2] =
    [Workload { name: "in cache", rows: 8, cols: 4096 }, Workload { name: "from memory", rows: 1024, cols: 4096 }];

/// Logits of one step of a language model.
pub const VOCABULARIES: [Workload; 2] = [
    Workload { name: "32,000 tokens", rows: 1, cols: 32_000 },
    Workload { name: "128,256 tokens", rows: 1, cols: 128_256 },
];

impl Workload {
    /// Returns the numbers of rows and columns.
    pub const fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// Returns the number of bytes moved by an op that reads and writes each element once.
    pub fn bytes<E: Element>(&self) -> u64 {
        2 * (self.elements() * size_of::<E>()) as u64
    }

    /// Returns the name for a benchmark of an op on this workload.
    pub fn group<E: Element>(&self, op: &str) -> String {
        format!("{op}/{}/{}x{}", E::DTYPE, self.rows, self.cols)
    }

    /// Returns the elements, row by row.
    pub fn numbers<E: Element>(&self) -> Vec<E> {
        numbers(self.elements())
    }
}

/// Returns `len` numbers with mean 0 and standard deviation 3.
pub fn numbers<E: Element>(len: usize) -> Vec<E> {
    bell(len, 3.0)
}

/// Returns `len` logits with mean 0 and standard deviation 2. Most of the tokens have a probability close to 0.
pub fn logits<E: Element>(len: usize) -> Vec<E> {
    bell(len, 2.0)
}

fn bell<E: Element>(len: usize, spread: f64) -> Vec<E> {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    (0..len).map(|_| E::from_wide(spread * normal(&mut state))).collect()
}

/// Returns an approximately normal number, with mean 0 and variance 1. This function is separate and not generic, so
/// that it is compiled with the library, which is optimised even if the caller is not.
#[inline(never)]
fn normal(state: &mut u64) -> f64 {
    let uniform = |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64
    };
    // The sum of twelve uniform numbers has variance 1.
    (0..12).map(uniform).sum::<f64>() - 6.0
}
