//! How much memory there is, so that what does not fit is refused or done otherwise before the system kills the program.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes that can be taken without swapping: what the system says, and the control group's limit; `None` where neither is
/// told (systems other than Linux).
pub fn available() -> Option<u64> {
    let of_system = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text));
    let of_group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let group = Path::new("/sys/fs/cgroup").join(group(&text)?);
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        Some(read("memory.max")?.saturating_sub(read("memory.current")?))
    });
    [of_system, of_group].into_iter().flatten().min()
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
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
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
