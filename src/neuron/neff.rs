//! Header of a NEFF, the output file of Neuron's compiler: 1024 bytes, followed by an archive.

#![forbid(unsafe_code)]

const HEADER: usize = 1024;

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes)
}

/// Checks that the bytes start with a NEFF header. Returns the reason if they do not.
pub(super) fn looks_like_one(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() < HEADER {
        return Err(format!("the file has {} bytes; a header alone has {HEADER} bytes", bytes.len()));
    }
    match u64_at(bytes, 8) {
        Some(1024) => Ok(()),
        other => Err(format!("the header states its size as {} bytes, not {HEADER}", other.unwrap_or_default())),
    }
}

/// Checks that a NEFF is complete and compiled for this number of physical cores in a logical core. Returns the reason
/// if it is not. The caller then compiles the program again and reports no error, because the check itself may be
/// wrong: Neuron does not document that the header states the size of the file.
pub(super) fn is_whole(bytes: &[u8], logical_cores: u8) -> Result<(), String> {
    looks_like_one(bytes)?;
    let data = u64_at(bytes, 16).unwrap_or_default();
    if data != (bytes.len() - HEADER) as u64 {
        return Err(format!("the header says that {data} bytes follow, but {} bytes follow", bytes.len() - HEADER));
    }
    // Older compilers leave this field 0, which means one physical core.
    let cores = bytes.get(552..556).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes).max(1);
    if cores != u32::from(logical_cores) {
        return Err(format!("the NEFF is for {cores} physical cores per logical core; it must be for {logical_cores}"));
    }
    Ok(())
}
