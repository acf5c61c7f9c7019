//! The header of a NEFF, the file that Neuron's compiler makes: 1024 bytes, then an archive.

#![forbid(unsafe_code)]

const HEADER: usize = 1024;

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes)
}

/// Whether these bytes start with a NEFF's header; if not, why.
pub(super) fn looks_like_one(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() < HEADER {
        return Err(format!("it has {} bytes, fewer than its header", bytes.len()));
    }
    match u64_at(bytes, 8) {
        Some(1024) => Ok(()),
        other => Err(format!("its header says that it has {} bytes, not {HEADER}", other.unwrap_or_default())),
    }
}

/// Whether a NEFF is whole and for so many physical cores a logical one; if not, why. That the sizes in the header are
/// those of the file is not documented: what does not keep to it is compiled anew, no more.
pub(super) fn is_whole(bytes: &[u8], logical_cores: u8) -> Result<(), String> {
    looks_like_one(bytes)?;
    let data = u64_at(bytes, 16).unwrap_or_default();
    if data != (bytes.len() - HEADER) as u64 {
        return Err(format!("its header says that {data} bytes follow, and {} do", bytes.len() - HEADER));
    }
    // Older compilers leave it 0.
    let cores = bytes.get(552..556).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes);
    if cores.max(1) != u32::from(logical_cores) {
        return Err(format!("it is for {cores} physical cores a logical one, not {logical_cores}"));
    }
    Ok(())
}
