//! What the kernel knows of a process (proc(5)), and on which cores threads run.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A look at a process: processor time since its start in microseconds, and anonymous memory. Mapped spool segments are
/// pages of files, which the kernel takes back when it needs them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub process_us: u64,
    /// Of the threads that answer clicks.
    pub edge_us: u64,
    pub memory_kib: u64,
}

impl Usage {
    /// Zeros when it is gone.
    pub fn of(pid: u32) -> Usage {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut usage = Usage { memory_kib: anonymous_kib(pid), process_us: process_us(pid), edge_us: 0 };
        for thread in threads {
            let is_edge =
                std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("edge"));
            if is_edge {
                usage.edge_us += schedstat_us(&thread.path().join("schedstat"));
            }
        }
        usage
    }
}

/// User and system time, of threads that have ended too.
fn process_us(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // USER_HZ is 100 on every Linux that Rust runs on.
    (ticks(14) + ticks(15)) * 10_000
}

/// Time on a processor, from the scheduler: finer than ticks.
fn schedstat_us(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) / 1_000
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub fn own_thread_cpu_us() -> u64 {
    schedstat_us(Path::new("/proc/thread-self/schedstat"))
}

/// Which cores there are for this program.
pub fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// The calling thread, and all threads and processes that it starts from now on.
pub fn pin(cores: &[usize]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

/// As many as this program may have: each connection is one.
pub fn allow_open_files() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_processor_and_memory() {
        let mut sum = 0u64;
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 40 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert!(sum != 1 && own_thread_cpu_us() > 0);
        let usage = Usage::of(std::process::id());
        assert!(usage.process_us > 0 && usage.memory_kib > 0, "{usage:?}");
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_told() {
        let all = cores();
        std::thread::spawn(move || {
            pin(&all[..1]).unwrap();
            assert_eq!(cores(), all[..1]);
        })
        .join()
        .unwrap();
    }
}
