//! Frees the buffers that threads keep between calls.

use super::scratch::{Lendable, SCRATCH};
use crate::simd::on_each_thread;
use std::cell::Cell;
use std::thread::LocalKey;

/// Frees the memory that ops on slices keep for later calls, on this thread and on the threads of the current rayon
/// pool. Waits until each of these threads has freed its memory.
///
/// Each thread keeps up to 32 MiB for each of four kinds of buffers: those of rows, of the sampler, of attention, and
/// of attention's gradient. Before an op returns, it frees buffers of more than 32 MiB. For rows of 131,072 logits, the
/// buffers of softmax and of the sampler stay below this limit. The next op after this call allocates its buffers
/// again.
///
/// It does not free the tables of elementwise functions. Once [`exp`](crate::exp()), for example, has got more than
/// 65,536 elements of f16 in total, it keeps its results for all f16 inputs in a table of 128 KiB until the process
/// ends. The same holds for bf16, and for the other functions without parameters. All tables take 4.25 MiB for each
/// instruction set in use.
///
/// ```
/// evenkeel::softmax(evenkeel::Rows::new(&[1.0f32, 2.0], 1, 2)?, &Default::default())?;
/// evenkeel::release_scratch();
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn release_scratch() {
    on_each_thread(&|| {
        free(&SCRATCH);
        #[cfg(feature = "inference")]
        free(&super::attention::BUFFERS);
        #[cfg(feature = "train")]
        free(&super::attention_backward::BUFFERS);
        #[cfg(feature = "sample")]
        free(&super::sample::SAMPLING);
    });
}

/// Frees this thread's buffers, unless they are lent or the thread is about to end.
fn free<T>(buffers: &'static LocalKey<Lendable<T>>) {
    drop(buffers.try_with(Cell::take));
}
