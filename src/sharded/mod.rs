//! Ops of rows whose columns are dealt out to ranks, each of which has some of them: the bits of the same op over whole
//! rows, for any number of ranks and wherever the columns are cut.
//!
//! A rank makes a [`Sharded`] of what it talks to the others by and which columns it has, and calls its ops, in the same
//! order as every other rank does.
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
//! # Why the bits are the same
//!
//! What ranks exchange is merged by maxima, by sums of integers, or put side by side: there is no sum of floats whose
//! order would be that of a network. [`SoftmaxPartial`](crate::SoftmaxPartial) and [`NormPartial`](crate::NormPartial)
//! say what that is for each op, and `docs/sharding.md` how many bytes it takes.
//!
//! [`Sharded::attention`] gathers what [`AttentionPartial`](crate::AttentionPartial) makes of each 256 keys: the columns
//! that are dealt out are keys there.
//!
//! The gradients of norms go on from the moments by sums of the same tiles, cross-entropy from
//! [`CrossEntropyPartial`](crate::CrossEntropyPartial), and [`clip_grad_norm()`] from the sums of each 256 elements: it takes
//! gradients as ranks have them, not rows.
//!
//! # What goes wrong
//!
//! Before each op ranks agree that all are about to do the same: the op, the type, the shape, the options with masks and
//! weights, and columns that are all of a row and none twice. Where one deviates, or refuses its arguments, every rank
//! gets an error that names it. A rank that does not come at all is an error once the deadline of the [`Collective`] is
//! over: [`Error::Collective`](crate::Error::Collective).

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
pub mod keys;
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

/// Some columns of rows, or some keys of [`Sharded::attention`], and what reaches the ranks that have the others. Each op is
/// a method.
///
/// Masks, weights and biases are those of all columns.
#[derive(Debug)]
pub struct Sharded<'c, C: ?Sized> {
    comm: &'c C,
    columns: Range<usize>,
    all: usize,
}

impl<'c, C: Collective + ?Sized> Sharded<'c, C> {
    /// The columns that this rank has, none perhaps, of so many in all.
    pub fn new(comm: &'c C, columns: Range<usize>, all: usize) -> Self {
        Sharded { comm, columns, all }
    }
}
