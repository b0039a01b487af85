//! What the kernel says of a process: CPU time and memory, out of `/proc`.

use std::{fs, time::Duration};

use crate::error::{BenchError, Context, Result};

/// The unit of times in `/proc/PID/stat`: fixed at 100 a second towards user space on Linux,
/// whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// CPU time that a process has used, all its threads, in user and kernel mode. An error if it has ended.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(format!("can't read {path}"))?;
    if has_ended(&text) {
        return Err(BenchError::new(format!("process {pid} has ended")));
    }
    parse_cpu_time(&text).ok_or_else(|| BenchError::new(format!("{path} isn't as expected")))
}

/// Whether a process is only there for its parent to learn how it ended.
fn has_ended(stat: &str) -> bool {
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
    matches!(state, Some('Z' | 'X') | None)
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything; what follows it is numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// CPU time that the machine has spent on anything at all, in all its cores.
pub fn machine_cpu_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("can't read /proc/stat")?;
    parse_machine_cpu_time(&text).ok_or_else(|| BenchError::new("/proc/stat isn't as expected"))
}

fn parse_machine_cpu_time(stat: &str) -> Option<Duration> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    // user, nice, system, idle, waiting for disks, interrupts (2), stolen by the host; guests are
    // counted in user and nice already.
    let &[user, nice, system, _, _, hard, soft, stolen, ..] = ticks.as_slice() else { return None };
    let ticks = user + nice + system + hard + soft + stolen;
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

/// Memory of a process that is in RAM, in KiB.
pub fn rss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(format!("can't read {path}"))?;
    let rss = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    rss.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .ok_or_else(|| BenchError::new(format!("{path} isn't as expected")))
}

/// Load of the machine: the average number of runnable threads in the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 90 0 0 0 150 25 0 0 20 0 3 0 5 6 7";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(parse_cpu_time("7 (x) S"), None);
        assert!(!has_ended(stat));
        assert!(has_ended("7 (a) Z) Z 1 7"));
    }

    #[test]
    fn a_machine_that_idles_or_waits_spends_nothing() {
        let stat = "cpu  10 1 5 900 77 2 3 4 0 0\ncpu0 1 2 3";
        assert_eq!(parse_machine_cpu_time(stat), Some(Duration::from_millis(250)));
        assert_eq!(parse_machine_cpu_time("cpu  10 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(machine_cpu_time().unwrap() > Duration::ZERO);
        assert!(rss_kib(std::process::id()).unwrap() > 100);
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(load_average().is_some());
    }
}
