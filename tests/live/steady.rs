//! Clicks at a constant rate that waits for nobody: each counts from the moment at which it was due, so that an edge that
//! hangs for a while is late for every visitor who comes meanwhile (an open loop).

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::crowd::Answers;
use crate::rig::Client;

/// Each sends its share of the rate. A click of one that is late makes its next one late, which is counted.
const SENDERS: u32 = 4;

/// Clicks on `edges` in turn, `rate` a second, for `how_long`.
pub fn clicks(edges: &[SocketAddr], rate: u32, how_long: Duration) -> Answers {
    let every = Duration::from_secs(1) * SENDERS / rate;
    let ready = Arc::new(Barrier::new(SENDERS as usize));
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let doors: Vec<Client> = edges.iter().map(|edge| Client::new(*edge)).collect();
            let ready = ready.clone();
            std::thread::spawn(move || {
                // It takes its time, which is no click's.
                take_precedence(None);
                ready.wait();
                let begin = Instant::now();
                send(doors, begin + every * number / SENDERS, every, begin + how_long)
            })
        })
        .collect();
    let mut all = Answers::default();
    senders.into_iter().for_each(|sender| all.add(sender.join().expect("nobody panics")));
    all
}

/// Lets `process`, all threads of it, or this thread run before everybody else on this machine, where that is allowed:
/// what is measured then is the way of a click, and not the queue of brokers, databases and neighbours for a processor.
/// Whatever the process does to itself stays to be seen, as all of its threads have the same precedence.
pub fn take_precedence(process: Option<u32>) -> bool {
    // Of this thread `/proc` tells PID/task/TID.
    let own = || std::fs::read_link("/proc/thread-self").ok()?.file_name()?.to_str()?.parse::<u32>().ok();
    let Some(id) = process.or_else(own) else { return false };
    let id = id.to_string();
    let whole = process.map(|_| "--all-tasks");
    let arguments: Vec<&str> = whole.into_iter().chain(["--rr", "--pid", "1", &id]).collect();
    let told = || std::process::Command::new("chrt").args(&arguments).output();
    // A thread may end between the look for all of them and its turn.
    (0..10).any(|_| told().is_ok_and(|output| output.status.success()))
}

fn send(mut doors: Vec<Client>, first: Instant, every: Duration, end: Instant) -> Answers {
    let mut answers = Answers::default();
    let count = doors.len();
    let mut due = first;
    for serial in 0.. {
        if due >= end {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let response = doors[serial % count].get("/phone?sub1=steady", &[("User-Agent", "Mozilla/5.0 Firefox/140.0")]);
        answers.micros.push(due.elapsed().as_micros() as u64);
        assert_eq!(response.status, 302, "{response:?}");
        assert!(answers.clicks.insert(response.click_id()), "a click ID twice");
        due += every;
    }
    answers
}

/// The value below which a quarter of them lies.
pub fn lower_quartile(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) / 4]
}

#[test]
fn a_late_answer_makes_those_behind_it_late() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let serial = Arc::new(std::sync::atomic::AtomicU64::new(0));
        for stream in listener.incoming().map_while(Result::ok) {
            let serial = serial.clone();
            std::thread::spawn(move || {
                // An empty line ends a question.
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                for (asked, _) in lines.filter(String::is_empty).enumerate() {
                    if asked == 0 {
                        crate::sleep_ms(200);
                    }
                    let id = serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let location = format!("https://shop.example/?click_id={id}");
                    let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
                    (&stream).write_all(head.as_bytes()).unwrap();
                }
            });
        }
    });
    let mut answers = clicks(&[address], 400, Duration::from_millis(400));
    assert_eq!(answers.micros.len(), 160);
    // Each of the four hangs once, for half of the time: a closed loop would have four late answers.
    let late = answers.micros.iter().filter(|micros| **micros > 20_000).count();
    assert!(late > 40, "{late} were late");
    assert!(answers.percentile(99) >= 150_000);
}
