//! Ops on rows sharded column-wise across ranks. Results are bit-identical to the results of the same op over whole
//! rows, for every number of ranks and for every split of the columns. Norms and attention need splits at multiples of
//! 256.
//!
//! Each rank creates a [`Sharded`] from its [`Collective`] and its range of columns. It then calls ops as methods, in
//! the same order as every other rank.
//!
//! ```
//! use evenkeel::sharded::{Collective, Sharded, Threads};
//! use evenkeel::{Rows, Softmax, softmax};
//! use std::time::Duration;
//!
//! let logits = [0.5f32, -1.0, 3.0, 2.0, 0.25];
//! let columns = [0..2, 2..5]; // of each rank
//! let ranks = Threads::new(2, Duration::from_secs(5))?;
//! let y: Vec<f32> = std::thread::scope(|scope| {
//!     let ranks: Vec<_> = ranks
//!         .into_iter()
//!         .map(|comm| {
//!             let own = columns[comm.rank()].clone();
//!             let x = &logits[own.clone()];
//!             scope.spawn(move || {
//!                 let shard = Sharded::new(&comm, own, 5);
//!                 shard.softmax(Rows::new(x, 1, x.len())?, &Softmax::default())
//!             })
//!         })
//!         .collect();
//!     ranks.into_iter().flat_map(|rank| rank.join().unwrap().unwrap()).collect()
//! });
//! assert_eq!(y, softmax(Rows::new(&logits, 1, 5)?, &Softmax::default())?);
//! # Ok::<(), evenkeel::Error>(())
//! ```
//!
//! # Why results are bit-identical
//!
//! Exchanged values are merged by maxima, by sums of integers, or by concatenation. No float sum depends on the order
//! in which the network delivers values. [`SoftmaxPartial`](crate::SoftmaxPartial) and
//! [`NormPartial`](crate::NormPartial) describe the exchanged values of each op; `docs/sharding.md` gives the number of
//! bytes.
//!
//! [`Sharded::attention`] gathers the [`AttentionPartial`](crate::AttentionPartial) of each block of 256 keys. In
//! attention, the sharded columns are keys.
//!
//! The gradients of norms use merged moments and merged sums over tiles of 256 columns. Cross-entropy uses
//! [`CrossEntropyPartial`](crate::CrossEntropyPartial). [`clip_grad_norm()`] takes gradient shards instead of rows, and
//! exchanges one sum for each 256 elements.
//!
//! # Errors
//!
//! Before each op, ranks check that all of them make the same call, with the same type, shape and options, including
//! masks and weights. They also check that each column belongs to exactly one rank. If a rank deviates, or rejects its
//! arguments, every rank returns an error that names the deviating rank. If a rank never joins the call, the others
//! return [`Error::Collective`](crate::Error::Collective) after the deadline of the [`Collective`].

#![deny(unsafe_code)]

mod agree;
mod attention;
mod clip_grad_norm;
mod collective;
mod counted;
mod cross_entropy;
mod cross_entropy_backward;
mod digest;
mod exchange;
mod grad_shard;
mod layer_norm;
mod layer_norm_backward;
mod layout;
mod log_softmax;
mod log_softmax_backward;
mod logsumexp;
mod logsumexp_backward;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod norm;
mod norm_backward;
mod process;
mod rms_norm;
mod rms_norm_backward;
mod sample;
mod scores;
mod scores_backward;
mod softmax;
mod softmax_backward;
mod threads;

#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
#[cfg(feature = "nccl")]
pub use self::nccl::Nccl;
pub use clip_grad_norm::clip_grad_norm;
pub use collective::Collective;
pub use counted::{Counted, Exchanged};
pub use grad_shard::GradShard;
pub use process::Process;
pub use threads::Threads;

use std::ops::Range;

/// Conversions between floats and integers that keep the order. With these conversions, ranks compute a maximum of
/// floats as a maximum of integers.
///
/// ```
/// use evenkeel::sharded::keys;
/// let of = |x: f32| keys::of_f32(x);
/// assert!([f32::NEG_INFINITY, -1.0, -0.0, 0.0, f32::INFINITY].is_sorted_by(|a, b| of(*a) < of(*b)));
/// assert!(of(f32::INFINITY) < of(f32::NAN)); // the maximum is NaN if any element is
/// assert_eq!(keys::to_f32(of(-1.5)), -1.5);
/// ```
pub mod keys {
    pub use crate::math::keys::{of_f32, of_f64, to_f32, to_f64};
}

/// A shard of rows: a range of columns, or of keys in [`Sharded::attention`], with the [`Collective`] that connects the
/// ranks. Each op is a method.
///
/// Masks, weights and biases always cover all columns.
#[derive(Debug)]
pub struct Sharded<'c, C: ?Sized> {
    comm: &'c C,
    columns: Range<usize>,
    all: usize,
}

impl<'c, C: Collective + ?Sized> Sharded<'c, C> {
    /// Creates the shard of a rank that holds the range `columns`, which may be empty. Whole rows have `all` columns.
    pub fn new(comm: &'c C, columns: Range<usize>, all: usize) -> Self {
        // Slicing by a range that ends before it starts would panic.
        let end = columns.end.max(columns.start);
        Sharded { comm, columns: columns.start..end, all }
    }
}
