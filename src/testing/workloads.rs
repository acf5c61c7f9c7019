//! The rows that this project's benchmarks run on, so that an engine measures on the same.
//!
//! ```
//! use evenkeel::testing::workloads::{ACTIVATIONS, Workload};
//! use half::bf16;
//!
//! for workload in ACTIVATIONS {
//!     let x: Vec<bf16> = workload.numbers();
//!     // criterion: benchmark_group(workload.group::<bf16>("softmax")), throughput(Bytes(workload.bytes::<bf16>()))
//!     assert_eq!(x.len(), workload.elements());
//!     assert_eq!(workload.bytes::<bf16>(), 4 * workload.elements() as u64); // each is read and written
//! }
//! assert_eq!(ACTIVATIONS[0].group::<bf16>("softmax"), "softmax/BF16/8x4096");
//! ```

use crate::element::Element;

/// Rows of numbers, the same on every run and every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// What it is for.
    pub name: &'static str,
    /// The number of rows.
    pub rows: usize,
    /// The length of each.
    pub cols: usize,
}

/// Activations: what fits the second-level cache, and what does not.
pub const ACTIVATIONS: [Workload; 2] =
    [Workload { name: "in cache", rows: 8, cols: 4096 }, Workload { name: "from memory", rows: 1024, cols: 4096 }];

/// The logits of one step of a language model.
pub const VOCABULARIES: [Workload; 2] = [
    Workload { name: "32,000 tokens", rows: 1, cols: 32_000 },
    Workload { name: "128,256 tokens", rows: 1, cols: 128_256 },
];

impl Workload {
    /// Rows and columns.
    pub const fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// How many numbers it has.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// How many bytes an op moves that reads and writes each number once.
    pub fn bytes<E: Element>(&self) -> u64 {
        2 * (self.elements() * size_of::<E>()) as u64
    }

    /// What a benchmark of an op on it is called.
    pub fn group<E: Element>(&self, op: &str) -> String {
        format!("{op}/{}/{}x{}", E::DTYPE, self.rows, self.cols)
    }

    /// Its numbers, row after row.
    pub fn numbers<E: Element>(&self) -> Vec<E> {
        numbers(self.elements())
    }
}

/// As many numbers with mean 0 and standard deviation 3.
pub fn numbers<E: Element>(len: usize) -> Vec<E> {
    bell(len, 3.0)
}

/// As many logits with mean 0 and standard deviation 2: most tokens have next to no probability.
pub fn logits<E: Element>(len: usize) -> Vec<E> {
    bell(len, 2.0)
}

fn bell<E: Element>(len: usize, spread: f64) -> Vec<E> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    // A sum of twelve uniform numbers has variance 1, and is near enough to normal.
    (0..len).map(|_| E::from_wide(spread * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0))).collect()
}
