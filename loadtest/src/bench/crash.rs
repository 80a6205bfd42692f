//! kill -9 under load: which clicks were answered, and are not in the records?
//!
//! Each click bears a number of its own in `sub1`, so that it is known again in any record, whatever its form.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::LINKS;
use super::http::Client;

/// Connections, each with a thread and a click under way.
const VISITORS: u64 = 16;

/// So many are answered before the kill, or as many as come in the time.
const CLICKS: u64 = 20_000;
const AT_MOST: Duration = Duration::from_secs(10);

const MARK: &str = "kill9-";

/// What was answered with a redirect until `kill` took effect, each `kill9-NUMBER`.
pub fn answered_until(address: SocketAddr, kill: impl FnOnce() -> Result<()>) -> Result<HashSet<String>> {
    let (answered, over) = (&AtomicU64::new(0), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..VISITORS)
            .map(|visitor| scope.spawn(move || click_until_over(address, visitor, answered, over)))
            .collect();
        let deadline = Instant::now() + AT_MOST;
        while answered.load(Relaxed) < CLICKS && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let killed = kill();
        over.store(true, Relaxed);
        killed?;
        let mut all = HashSet::new();
        for visitor in visitors {
            let words = visitor.join().map_err(|_| anyhow::anyhow!("a visitor panicked"))?;
            all.extend(words);
        }
        ensure!(!all.is_empty(), "nothing was answered before the kill");
        Ok(all)
    })
}

/// A connection that ends is opened again: some servers limit what one may ask.
fn click_until_over(address: SocketAddr, visitor: u64, answered: &AtomicU64, over: &AtomicBool) -> Vec<String> {
    let mut words = Vec::new();
    let mut number = visitor;
    while let (false, Ok(mut client)) = (over.load(Relaxed), Client::connect(address)) {
        while !over.load(Relaxed) {
            let word = format!("{MARK}{number}");
            let target = format!("/l{}?sub1={word}", number % LINKS);
            number += VISITORS;
            match client
                .get(&target, "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n")
            {
                Ok(answer) if answer.status == 302 => {
                    words.push(word);
                    answered.fetch_add(1, Relaxed);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    words
}

/// The words of clicks that stand somewhere in records.
pub fn words_in(records: &str) -> HashSet<String> {
    records
        .split(MARK)
        .skip(1)
        .map(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default())
        .filter(|number| !number.is_empty())
        .map(|number| format!("{MARK}{number}"))
        .collect()
}

/// Of those answered, how many are not recorded, and how many there are.
pub fn missing(answered: &HashSet<String>, recorded: &HashSet<String>) -> (u64, u64) {
    (answered.difference(recorded).count() as u64, answered.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_is_known_again_in_any_record() {
        let records = "{\"uri\":\"/l1?sub1=kill9-7\"}\n{\"params\":{\"sub1\":\"kill9-12\"}}\nkill9-x torn kill9-3";
        let recorded = words_in(records);
        let expected: HashSet<String> = ["kill9-7", "kill9-12", "kill9-3"].map(str::to_owned).into();
        assert_eq!(recorded, expected);
        let answered: HashSet<String> = ["kill9-7", "kill9-1", "kill9-3"].map(str::to_owned).into();
        assert_eq!(missing(&answered, &recorded), (1, 3));
    }
}
