//! Twice as many visitors as the edge has time for, each with a connection of their own (contract E34): as many are answered
//! as without the others, it takes no more memory, and whoever is not answered is told so.

use std::cell::RefCell;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::idle::resident_kib;
use crate::rig::Server;
use crate::rig::books::spooled;
use crate::rig::server::Start;
use crate::{alone, counted, is_long, redirected};

/// Of a core: whoever makes the load needs far more than who answers it.
const PART_PERCENT: u64 = 5;
/// Short, so that nobody waits for the next one for long; a millisecond of it is the least that the kernel grants.
const PERIOD_US: u64 = 20_000;

/// Of the peak, what is answered while twice as many come: in the median of some minutes, and in a few seconds. With a part
/// of a core peaks differ by a fifth from run to run (`docs/benchmarks.md`).
const LEAST_SHARE: [f64; 2] = [0.9, 0.6];

/// How long a visitor tries to get a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than the longest queue lasts.
const HANGS: Duration = Duration::from_secs(20);

/// A control group, of version 1 or 2, that has a part of a core.
struct Part(PathBuf);

impl Part {
    /// `None` where nobody may make one.
    fn of_a_core(server: &Server) -> Option<Part> {
        let name = format!("afflux-test-{}", server.pid());
        let (one, two) = (Path::new("/sys/fs/cgroup/cpu").join(&name), Path::new("/sys/fs/cgroup").join(&name));
        let quota = PERIOD_US * PART_PERCENT / 100;
        let (directory, rules) = if one.parent().is_some_and(|all| all.join("cpu.cfs_quota_us").exists()) {
            let rules = [
                ("cpu.cfs_period_us", PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
                // Others who are busy do not take its part away.
                ("cpu.shares", "20000".to_owned()),
            ];
            (one, rules.to_vec())
        } else {
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu");
            (two, vec![("cpu.max", format!("{quota} {PERIOD_US}")), ("cpu.weight", "10000".to_owned())])
        };
        fs::create_dir(&directory).ok()?;
        let part = Part(directory);
        for (file, value) in rules.iter().chain(&[("cgroup.procs", server.pid().to_string())]) {
            fs::write(part.0.join(file), value).ok()?;
        }
        Some(part)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Who is in it is dropped before, and takes a moment to be gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What became of visitors.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    redirected: u64,
    told_503: u64,
    /// Their connection was refused.
    refused: u64,
    /// It was reset, or closed without a word.
    cut_off: u64,
    /// Their kernel heard nothing.
    outside: u64,
    /// Connected, and heard nothing.
    hung: u64,
}

async fn visit(address: SocketAddr, heard: Rc<RefCell<Heard>>) {
    let count = |of: fn(&mut Heard) -> &mut u64| *of(&mut heard.borrow_mut()) += 1;
    let Ok(connected) = timeout(PATIENCE, TcpStream::connect(address)).await else {
        return count(|of| &mut of.outside);
    };
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return count(|of| &mut of.refused),
        // Refused between the two ends of a handshake.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return count(|of| &mut of.cut_off),
        Err(error) => panic!("{error}"),
    };
    let asked = b"GET /phone HTTP/1.1\r\nHost: afflux.test\r\nConnection: close\r\n\r\n";
    let exchange = async {
        // Who is told before they ask hears it all the same, and so is what was said before a reset.
        let _ = stream.write_all(asked).await;
        let mut answer = Vec::with_capacity(1_024);
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    match timeout(HANGS, exchange).await {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 302") => count(|of| &mut of.redirected),
        Ok(answer) if answer.starts_with(b"HTTP/1.1 503") => count(|of| &mut of.told_503),
        Ok(answer) if answer.is_empty() => count(|of| &mut of.cut_off),
        Ok(answer) => panic!("{}", String::from_utf8_lossy(&answer)),
        Err(_) => count(|of| &mut of.hung),
    }
}

fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, work)
}

/// The most clicks a second: of few visitors and of many.
fn peak(server: &Server, seconds: u64) -> f64 {
    answered(server, 64, seconds).max(answered(server, 512, seconds))
}

/// Clicks a second that are answered when each of so many visitors waits for the answer before, or for a moment when there
/// was none.
fn answered(server: &Server, visitors: usize, seconds: u64) -> f64 {
    let heard = Rc::<RefCell<Heard>>::default();
    let begun = Instant::now();
    on_this_thread(async {
        let until = begun + Duration::from_secs(seconds);
        let visitor = || {
            let (heard, address) = (heard.clone(), server.edge);
            tokio::task::spawn_local(async move {
                while Instant::now() < until {
                    let before = heard.borrow().refused;
                    visit(address, heard.clone()).await;
                    if heard.borrow().refused > before {
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            })
        };
        let visitors: Vec<_> = (0..visitors).map(|_| visitor()).collect();
        for visitor in visitors {
            visitor.await.expect("no panic");
        }
    });
    heard.borrow().redirected as f64 / begun.elapsed().as_secs_f64()
}

/// What became of visitors of whom `rate` come each second, whatever became of those before.
struct Flood {
    all: Heard,
    /// Clicks a second that were answered while they came, from the first second on.
    answered_each_second: f64,
    /// Of the edge, each second.
    resident_kib: Vec<u64>,
}

fn flood(server: &Server, rate: f64, seconds: u64) -> Flood {
    let heard = Rc::<RefCell<Heard>>::default();
    let mut resident = Vec::new();
    let mut in_time = 0;
    on_this_thread(async {
        let begun = tokio::time::Instant::now();
        let (mut visitors, mut came, mut at_first) = (Vec::new(), 0_u64, 0);
        for tick in 1..=seconds * 100 {
            sleep_until(begun + Duration::from_millis(10 * tick)).await;
            let due = (rate * begun.elapsed().as_secs_f64()) as u64;
            for _ in came..due {
                visitors.push(tokio::task::spawn_local(visit(server.edge, heard.clone())));
            }
            came = due;
            if tick % 100 == 0 {
                resident.push(resident_kib(server));
                at_first = if tick == 100 { heard.borrow().redirected } else { at_first };
            }
        }
        in_time = heard.borrow().redirected - at_first;
        for visitor in visitors {
            visitor.await.expect("no panic");
        }
    });
    let all = *heard.borrow();
    Flood { all, answered_each_second: in_time as f64 / (seconds - 1) as f64, resident_kib: resident }
}

#[test]
fn e34_of_twice_as_many_as_it_has_time_for_as_many_are_answered_and_nobody_is_left_hanging() {
    let _alone = alone();
    // Whoever waits for a connection has a descriptor.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit can be raised");
    let (rounds, measured, flooded) = if is_long() { (5, 8, 60) } else { (1, 3, 8) };
    let home = tempfile::tempdir().unwrap();
    // It is the processor that there is too little of: nobody waits for the disk.
    let config = vec![("edge", "workers = 1".into()), ("spool", "durability = \"process\"".into())];
    let start = Start { config, ..Start::default() };
    // Dropped behind the server that is in it.
    let part;
    let server = Server::start(home.path(), &start);
    part = Part::of_a_core(&server);
    if part.is_none() {
        // It has one core, and who makes the load the others.
        let pid = server.pid().to_string();
        assert!(Command::new("taskset").args(["-a", "-p", "-c", "0", &pid]).status().unwrap().success());
    }
    // A server that has just begun makes segments too.
    answered(&server, 64, 2);
    let mut shares = Vec::new();
    let mut told = 0;
    // The peaks of this server and this machine as they are meanwhile: before and after.
    let mut before = peak(&server, measured);
    for _ in 0..rounds {
        let (answered, memory) = (redirected(&server), resident_kib(&server));
        let Flood { all, answered_each_second, resident_kib } = flood(&server, 2.0 * before, flooded);
        let answered_in_it = redirected(&server) - answered;
        let after = peak(&server, measured);
        let share = answered_each_second * 2.0 / (before + after);
        println!(
            "peak {before:.0}/s before and {after:.0}/s after; of twice as many for {flooded} s {answered_each_second:.0}/s \
             were answered ({:.0} %): {all:?}; KiB of memory before {memory}, then {resident_kib:?}",
            share * 100.0
        );
        assert_eq!((all.hung, all.outside), (0, 0), "{all:?}");
        assert!(all.refused + all.cut_off == 0 || counted(&server, "afflux_http_shut_total") > 0);
        // Answered is counted.
        assert_eq!(answered_in_it, all.redirected as usize);
        assert_flat(&resident_kib);
        told += all.told_503;
        shares.push(share);
        before = after;
    }
    // So is whoever was told.
    assert!(counted(&server, "afflux_http_turned_away_total") >= told);
    assert_eq!(spooled(&server).len(), redirected(&server));
    shares.sort_by(f64::total_cmp);
    let share = shares[shares.len() / 2];
    assert!(share >= LEAST_SHARE[usize::from(!is_long())], "the median of {shares:.2?}");
}

fn assert_flat(resident_kib: &[u64]) {
    let half = resident_kib.len() / 2;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (first, second) = (most(&resident_kib[..half]), most(&resident_kib[half..]));
    assert!(second <= first + 8 * 1_024, "memory grows: {resident_kib:?}");
}
