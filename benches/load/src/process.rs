//! What Linux says of a process, and of a folder's size.

use std::path::Path;

/// The kernel's clock ticks a second, as `/proc` counts them: 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of one process so far, in microseconds; all its threads, ended ones included.
pub fn cpu_us(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name, which may hold anything but ends with the last bracket.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1e6 / TICKS_PER_SECOND)
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The processes whose parent this is.
pub fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Bytes that a folder takes on disk, by blocks.
pub fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(folder) = std::fs::read_dir(path) else { return 0 };
    let sizes = folder.flatten().map(|file| match file.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&file.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
