//! A server as the kernel sees it: a process group of ours, its CPU, its memory, its end (proc(5)).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// USER_HZ is 100 on every Linux that Rust runs on.
const MICROS_A_TICK: u64 = 10_000;

/// All processes that one command started. Killed when it is dropped.
pub struct Group {
    child: Child,
    name: String,
}

impl Group {
    /// On one core, with what it says in `home/out`.
    pub fn start(core: usize, home: &Path, words: &[&str]) -> Result<Group> {
        let out = std::fs::File::create(home.join("out"))?;
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).args(words).process_group(0).stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out);
        let name = words.first().copied().unwrap_or_default().to_owned();
        let child = command.spawn().context("taskset, of the package util-linux")?;
        Ok(Group { child, name })
    }

    /// How it ended, when it did.
    pub fn ended(&mut self) -> io::Result<Option<String>> {
        Ok(self.child.try_wait()?.map(|status| format!("{} ended: {status}", self.name)))
    }

    fn stats(&self) -> impl Iterator<Item = Stat> {
        let group = self.child.id();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.filter_map(|entry| Stat::read(entry.file_name().to_str()?)).filter(move |stat| stat.group == group)
    }

    /// User and system time of everything in it, microseconds.
    pub fn cpu_micros(&self) -> u64 {
        self.stats().map(|stat| stat.cpu_micros).sum()
    }

    /// Of its first process, the threads whose name begins so. From the scheduler: finer than ticks.
    pub fn threads_cpu_micros(&self, name: &str) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let of_name = threads.filter(|thread| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))
        });
        let nanos = of_name.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        nanos.sum::<u64>() / 1_000
    }

    /// Pages of files, as mapped segments of a spool are, belong to the kernel's cache and are not in it.
    pub fn anonymous_kib(&self) -> u64 {
        let of_one = |stat: Stat| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", stat.process)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        self.stats().filter_map(of_one).sum()
    }

    /// kill -9 of every process at once.
    pub fn kill(&mut self) -> Result<()> {
        let status = Command::new("kill").args(["-9", "--", &format!("-{}", self.child.id())]).status()?;
        anyhow::ensure!(status.success(), "kill -9 of {}: {status}", self.name);
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was killed before is no process of ours any more.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}

struct Stat {
    process: u32,
    group: u32,
    cpu_micros: u64,
}

impl Stat {
    fn read(process: &str) -> Option<Stat> {
        let process = process.parse().ok()?;
        let fields = fields(&process_file(process))?;
        let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
        let ticks = number(14)? + number(15)?;
        Some(Stat { process, group: number(5)? as u32, cpu_micros: ticks * MICROS_A_TICK })
    }
}

fn process_file(process: u32) -> String {
    format!("/proc/{process}/stat")
}

/// From the third field on: the second, the name, may hold anything.
fn fields(path: &str) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(path).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    Some(behind.split_ascii_whitespace().map(str::to_owned).collect())
}

/// CPU of our children that ended and were waited for, microseconds.
pub fn children_cpu_micros() -> u64 {
    let fields = fields("/proc/self/stat").unwrap_or_default();
    let ticks = |place: usize| fields.get(place - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(16) + ticks(17)) * MICROS_A_TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_everything_that_a_command_started_and_ends_at_once() {
        let home = tempfile::tempdir().unwrap();
        let script = "sh -c 'while :; do :; done' & while :; do :; done";
        let mut group = Group::start(0, home.path(), &["sh", "-c", script]).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while group.stats().count() < 2 || group.cpu_micros() < 50_000 {
            assert!(std::time::Instant::now() < deadline, "two processes that compute");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(group.threads_cpu_micros("sh") > 0);
        assert!(group.threads_cpu_micros("nobody") == 0);
        assert!(group.anonymous_kib() > 0);
        group.kill().unwrap();
        // The child of the child is adopted; whoever adopts it may take a moment to bury it.
        while group.stats().any(|stat| stat.cpu_micros > 0 && is_running(stat.process)) {
            assert!(std::time::Instant::now() < deadline, "nobody is left");
        }
    }

    fn is_running(process: u32) -> bool {
        fields(&process_file(process)).is_some_and(|fields| fields[0] != "Z")
    }
}
