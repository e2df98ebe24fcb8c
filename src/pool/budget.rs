//! How much memory guests may have together when the configuration does not say.

use std::fs;
use std::path::Path;

/// Three quarters of what the machine, or the control group this process is in, has; bytes. The rest is the server's own,
/// and the kernel's.
pub(crate) fn detect() -> usize {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total(&text));
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| limit(Path::new(path)));
    // A gibibyte when neither can be read: small, but it runs.
    let all = machine.into_iter().chain(group).min().unwrap_or(1 << 30);
    all / 4 * 3
}

/// `MemTotal` of `/proc/meminfo`, bytes.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// A control group's limit, bytes; none when it says `max`.
fn limit(path: &Path) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_bytes() {
        let meminfo = "MemTotal:       24689152 kB\nMemFree:        1 kB\n";
        assert_eq!(total(meminfo), Some(24_689_152 * 1024));
        assert_eq!(total("nonsense"), None);
    }

    #[test]
    fn the_budget_leaves_a_quarter_for_the_server() {
        let machine = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| total(&text));
        assert!(detect() <= machine.expect("linux") / 4 * 3);
        assert!(detect() > 0);
    }
}
