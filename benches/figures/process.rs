//! What the kernel knows of a process (proc(5)).

/// User and system time of all threads, microseconds.
pub fn cpu_us(pid: u32) -> u64 {
    stat_cpu_us(&format!("/proc/{pid}/stat"))
}

/// The same for the threads whose name starts with `name`.
pub fn threads_cpu_us(pid: u32, name: &str) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)))
        .map(|thread| schedstat_cpu_us(&thread.path().join("schedstat").to_string_lossy()))
        .sum()
}

fn stat_cpu_us(path: &str) -> u64 {
    let Ok(stat) = std::fs::read_to_string(path) else { return 0 };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // USER_HZ is 100 on every Linux that Rust runs on.
    (ticks(14) + ticks(15)) * 10_000
}

/// Time on a processor, from the scheduler: finer than ticks.
fn schedstat_cpu_us(path: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) / 1_000
}

pub fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // Mapped spool segments are files' pages, not memory that the process needs: RssAnon is.
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    kib("RssAnon:") / 1024.0
}

/// The value at a quantile, `0.25` for the lower quartile.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at) as usize]
}

/// The first CPU line of /proc/cpuinfo, the kernel: where a figure was measured.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    format!("{} x{cores}, Linux {}", model.trim_start_matches(['\t', ':', ' ']), kernel.trim())
}
