//! Where a run was made.

use std::path::Path;

use crate::outcome::Machine;

/// `directory` is where the server writes.
pub fn machine(directory: &Path) -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let named = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        value.trim_start_matches(['\t', ':', ' ']).trim().to_owned()
    };
    Machine {
        processor: named(&processor, "model name"),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        memory_kib: named(&memory, "MemTotal").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        file_system: file_system(&read("/proc/self/mounts"), directory),
    }
}

/// Of the mount that the directory lies under.
fn file_system(mounts: &str, directory: &Path) -> String {
    let directory = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let under = fields.filter(|fields| fields.len() > 2 && directory.starts_with(fields[1]));
    // Of two at one place the later one hides the other.
    let closest = under.max_by_key(|fields| Path::new(fields[1]).components().count());
    closest.map_or("unknown".into(), |fields| fields[2].to_owned())
}

/// Of the directory that this program is run in.
pub fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    said.map_or("unknown".into(), |said| String::from_utf8_lossy(&said).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_mount_tells_the_file_system() {
        let mounts = "dev / ext4 rw 0 0\ntmp /no/such tmpfs rw 0 0\nother /no ext3 rw 0 0\nshort\n";
        assert_eq!(file_system(mounts, Path::new("/no/such/place")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/elsewhere")), "ext4");
        assert!(machine(Path::new("/")).cores > 0);
    }
}
