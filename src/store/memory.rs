//! How much memory there is, so that what does not fit is refused or done otherwise before the system kills the program.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes that can be taken without swapping: the least of what the system says, the limits of the control groups that the
/// process is in, and its own (`ulimit -d` and `-v`); `None` where nothing is told (systems other than Linux).
pub fn available() -> Option<u64> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let of_groups = group(&text("/proc/self/cgroup")).and_then(|own| {
        let root = Path::new("/sys/fs/cgroup");
        root.join(own).ancestors().take_while(|group| group.starts_with(root)).filter_map(of_group).min()
    });
    let of_process = left_to_process(&text("/proc/self/limits"), &text("/proc/self/status"));
    [meminfo(&text("/proc/meminfo")), of_groups, of_process].into_iter().flatten().min()
}

/// What a control group leaves.
fn of_group(group: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

/// What its own limits leave to a process, out of its files `limits` and `status`; `None` where it has none.
fn left_to_process(limits: &str, status: &str) -> Option<u64> {
    let limit = |name: &str| -> Option<u64> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let left = |limit_name: &str, taken: &str| Some(limit(limit_name)?.saturating_sub(kilobytes(status, taken)?));
    [left("Max data size", "VmData:"), left("Max address space", "VmSize:")].into_iter().flatten().min()
}

/// Refuse what needs more bytes than there are.
pub fn check(what: &str, needed: u64, instead: &'static str) -> Result<()> {
    match available() {
        Some(available) if needed > available => {
            Err(Error::NotEnoughMemory { what: what.into(), needed, available, instead })
        }
        _ => Ok(()),
    }
}

/// MemAvailable of /proc/meminfo, in bytes.
fn meminfo(text: &str) -> Option<u64> {
    kilobytes(text, "MemAvailable:")
}

/// A line of one of the system's files that counts in kB, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

/// The process's group of version 2, below the root.
fn group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let text = "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(meminfo(text), Some(8 << 20));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
        assert_eq!(group("12:cpu:/x\n0::/user.slice/a\n"), Some("user.slice/a"));
        assert_eq!(group("0::/\n"), Some(""));
        let limits = |data: &str, space: &str| {
            format!(
                "Max data size             {data}      unlimited   bytes\nMax address space   {space}   unlimited  bytes\n"
            )
        };
        let status = "VmSize:\t    2048 kB\nVmData:\t    1024 kB\n";
        let left = |data: &str, space: &str| left_to_process(&limits(data, space), status);
        assert_eq!(left("unlimited", "unlimited"), None);
        assert_eq!(left("3145728", "unlimited"), Some(2 << 20));
        assert_eq!(left("3145728", "3145728"), Some(1 << 20));
        assert_eq!(left("1000", "unlimited"), Some(0), "more is taken than it may");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check("a byte", 1, "take none").unwrap();
        if available().is_some() {
            let error = check("the moon", u64::MAX, "take a smaller one").unwrap_err().to_string();
            assert!(
                error.starts_with("the moon needs 17179869184 GiB of memory, ") && error.ends_with("one"),
                "{error}"
            );
        }
    }
}
