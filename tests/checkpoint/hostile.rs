//! Tests of small files with changed or missing bytes. Reading must not panic. The file's size limits the memory that
//! reading may allocate.

use crate::write::{Gguf, Tensor, file, safetensors, text};
use evenkeel::checkpoint::Checkpoint;
use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
    let tensors = || {
        vec![
            Tensor::floats("model.embed_tokens.weight", "F32", &[2, 32], &[0.5; 64]),
            Tensor::floats("norm.weight", "F64", &[3], &[1.0, 2.0, f64::NAN]),
            Tensor::floats("up.weight", "BF16", &[4, 1], &[1.0, -1.0, 1e30, 0.0]),
        ]
    };
    let ids = tensors().into_iter().zip([0, 28, 30]).collect::<Vec<_>>();
    let list = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text("bc")].concat();
    let mut blocks = ids;
    blocks.push((Tensor::new("q", "Q4_K", &[256], vec![7; 144]), 12));
    let gguf = Gguf::new(blocks).with("tokens", 9, list).with("general.alignment", 4, 32u32.to_le_bytes().to_vec());
    vec![safetensors(&tensors()), gguf.bytes()]
}

thread_local! {
    /// Thread pool that contains only this thread, because allocations are measured per thread.
    static POOL: rayon::ThreadPool = {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        pool.expect("the pool of one thread must be created")
    };
}

/// Reads a file with these bytes, valid or not, and checks how much memory is allocated. Opening may allocate 64 KiB
/// plus 40 times the file's size. Inspecting may allocate 3 MiB for counts, plus 100 times the file's size.
fn read(bytes: &[u8]) {
    let file = file(bytes);
    let mut opened = None;
    let allocated = allocation_counter::measure(|| opened = Some(Checkpoint::open(file.path())));
    assert!(
        allocated.bytes_max <= 64 * 1024 + 40 * bytes.len() as u64,
        "opening a file of {} bytes must allocate at most 64 KiB plus 40 bytes per byte of the file, got {} bytes",
        bytes.len(),
        allocated.bytes_max
    );
    if let Some(Ok(checkpoint)) = opened {
        let allocated = allocation_counter::measure(|| POOL.with(|pool| pool.install(|| drop(checkpoint.inspect()))));
        assert!(
            allocated.bytes_max <= (3 << 20) + 100 * bytes.len() as u64,
            "inspecting a file of {} bytes must allocate at most 3 MiB plus 100 bytes per byte of the file, got {} \
             bytes",
            bytes.len(),
            allocated.bytes_max
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_and_cut(
        seed in 0..2usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(&bytes);
    }

    /// Writes far too large numbers into the first part of the header, which contains counts and lengths.
    #[test]
    fn large_numbers(seed in 0..2usize, at in 0..700usize, number in prop::sample::select(vec![
        u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 1 << 32, (1 << 31) - 1, 1 << 20,
    ])) {
        let mut bytes = seeds().swap_remove(seed);
        let at = at.min(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        read(&bytes);
    }

    #[test]
    fn noise(noise in prop::collection::vec(any::<u8>(), 0..200), gguf in any::<bool>()) {
        let magic: &[u8] = if gguf { b"GGUF\x03\0\0\0" } else { b"" };
        read(&[magic, &noise].concat());
    }
}
