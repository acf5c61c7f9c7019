//! Copies between strided lanes and contiguous rows.

/// Copies columns of a `[len, inner]` block into contiguous rows of `len` elements, until `rows` is full. `first` is
/// the index of the first column to copy.
pub fn gather<T: Copy>(block: &[T], inner: usize, first: usize, len: usize, rows: &mut [T]) {
    let count = rows.len() / len;
    for j in 0..len {
        for (i, value) in block[j * inner + first..][..count].iter().enumerate() {
            rows[i * len + j] = *value;
        }
    }
}

/// Copies rows back into the block: the reverse of [`gather`].
pub fn scatter<T: Copy>(rows: &[T], block: &mut [T], inner: usize, first: usize, len: usize) {
    let count = rows.len() / len;
    for j in 0..len {
        for (i, value) in block[j * inner + first..][..count].iter_mut().enumerate() {
            *value = rows[i * len + j];
        }
    }
}
