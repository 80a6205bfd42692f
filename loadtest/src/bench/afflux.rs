//! Afflux as a subject: `afflux serve` with one worker on the core of servers, and what it says of itself.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::http;
use super::process::Group;
use super::{LINKS, SERVER_CORE};

const UNTIL_READY: Duration = Duration::from_secs(60);

/// SHA-256 of `operator`, the token with which the report is read.
const OPERATOR_SHA256: &str = "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23";
const OPERATOR: &str = "Authorization: Bearer operator\r\n";

/// What answers visitors; attribution, syncing and the store have threads of other names.
const ANSWERING: &str = "edge";

#[derive(Debug, Clone)]
pub struct Afflux {
    pub key: String,
    pub name: String,
    durability: &'static str,
    binary: PathBuf,
}

pub struct RunningAfflux {
    pub group: Group,
    pub address: SocketAddr,
    pub tls: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
    binary: PathBuf,
    config: PathBuf,
}

/// What it has counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    pub redirected: u64,
    pub recorded: u64,
    /// Answered without a record, for want of room.
    pub unspooled: u64,
    /// Overloaded: 503 instead of a redirect.
    pub refused: u64,
    pub resumed_handshakes: u64,
    pub reported: u64,
}

impl Afflux {
    /// With each durability.
    pub fn all(binary: &Path) -> Vec<Afflux> {
        let subject = |durability: &'static str| Afflux {
            key: format!("afflux-{durability}"),
            name: format!("Afflux, {durability}"),
            durability,
            binary: binary.to_owned(),
        };
        ["process", "disk"].map(subject).to_vec()
    }

    pub fn recorded_first(&self) -> &'static str {
        if self.durability == "disk" { "yes: survives a power cut" } else { "yes: survives kill -9" }
    }

    pub fn start(&self, home: &Path) -> Result<RunningAfflux> {
        let binary =
            self.binary.canonicalize().with_context(|| format!("{}: make build makes it", self.binary.display()))?;
        let [address, tls, api, admin] = http::free_addresses()?;
        let config = home.join("afflux.toml");
        std::fs::write(&config, self.config(address, tls, api, admin))?;
        std::fs::write(home.join("catalog.toml"), CATALOG)?;
        std::fs::write(home.join("links.ndjson"), links())?;
        let words = [binary.to_string_lossy(), "serve".into(), "--config".into(), config.to_string_lossy()];
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let mut group = Group::start(SERVER_CORE, home, &words)?;
        let deadline = Instant::now() + UNTIL_READY;
        while !http::get(admin, "/readyz", "").is_ok_and(|answer| answer.status == 200) {
            if let Some(end) = group.ended()? {
                bail!("{}: {end}\n{}", self.name, std::fs::read_to_string(home.join("out")).unwrap_or_default());
            }
            ensure!(Instant::now() < deadline, "{} is not ready", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(RunningAfflux { group, address, tls, api, admin, binary, config })
    }

    fn config(&self, address: SocketAddr, tls: SocketAddr, api: SocketAddr, admin: SocketAddr) -> String {
        format!(
            "[edge]\nlisten = \"{address}\"\ntls_listen = \"{tls}\"\nworkers = 1\n\
             tls_certificate_file = \"edge.crt\"\ntls_key_file = \"edge.key\"\n\
             [api]\nlisten = \"{api}\"\noperator_tokens_sha256 = [\"{OPERATOR_SHA256}\"]\n\
             [admin]\nlisten = \"{admin}\"\n[catalog]\npath = \"catalog.toml\"\n[store]\npath = \"data/afflux.sqlite\"\n\
             [spool]\ndirectory = \"data/spool\"\ndurability = \"{}\"\nmax_bytes = 4_294_967_296\n",
            self.durability
        )
    }
}

const CATALOG: &str = r#"links_file = "links.ndjson"

[[merchants]]
id = 1
name = "Shop"
currency = "IRR"
unit = "rial"

[[offers]]
id = 12
merchant_id = 1
name = "Everything in the shop"
status = "active"
landing_url = "https://shop.example/"
deep_link_hosts = ["shop.example"]
click_id_parameter = "click_id"

  [[offers.terms]]
  from = 2026-01-01T00:00:00+03:30
  window_days = 10
  model = "last_click"
  hold_days = 14
  rate_basis = "conversion"
  default_rate = "12%"

[[publishers]]
id = 34
name = "Blog"
status = "approved"
contract_signed = true
"#;

/// `/l0` and on, each to a page of its own.
fn links() -> String {
    (0..LINKS).fold(String::new(), |mut text, link| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            r#"{{"code":"l{link}","offer_id":12,"publisher_id":34,"url":"https://shop.example/p/{link}?color=black"}}"#
        );
        text
    })
}

impl RunningAfflux {
    pub fn answering_cpu_micros(&self) -> u64 {
        self.group.threads_cpu_micros(ANSWERING)
    }

    pub fn counted(&self) -> Result<Counted> {
        let page = http::get(self.admin, "/metrics", "")?.body;
        Ok(Counted { reported: self.reported()?, ..counted(&page) })
    }

    /// Waits until the report shows what the spool holds, `patience` at most.
    pub fn counted_when_reported(&self, patience: Duration) -> Result<Counted> {
        let deadline = Instant::now() + patience;
        loop {
            let counted = self.counted()?;
            if counted.reported >= counted.recorded || Instant::now() > deadline {
                return Ok(counted);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn reported(&self) -> Result<u64> {
        let target = "/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by=merchant";
        let answer = http::get(self.api, target, OPERATOR)?;
        ensure!(answer.status == 200, "the report: {} {}", answer.status, answer.body);
        let report: serde_json::Value = serde_json::from_str(&answer.body)?;
        let rows = report["rows"].as_array().context("a report without rows")?;
        let clicks = |row: &serde_json::Value| {
            ["clicks", "rejected_clicks"].iter().filter_map(|name| row[name].as_u64()).sum::<u64>()
        };
        Ok(rows.iter().map(clicks).sum())
    }

    /// Values of `sub1` of all clicks in its spools; it need not run.
    pub fn recorded_words(&self) -> Result<HashSet<String>> {
        let output = Command::new(&self.binary).args(["spool", "cat", "--config"]).arg(&self.config).output()?;
        ensure!(output.status.success(), "spool cat: {}", String::from_utf8_lossy(&output.stderr));
        Ok(super::crash::words_in(&String::from_utf8_lossy(&output.stdout)))
    }
}

fn counted(page: &str) -> Counted {
    let sum = |name: &str, labels: &[&str]| -> u64 {
        let of_name =
            page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let lines = of_name.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    Counted {
        redirected: sum("afflux_edge_requests_total", &["outcome=\"redirected\""]),
        recorded: sum("afflux_spool_records_total", &["topic=\"clicks\""]),
        unspooled: sum("afflux_spool_undurable_total", &["topic=\"clicks\"", "kind=\"unspooled\""]),
        refused: sum("afflux_edge_requests_total", &["outcome=\"overloaded\""]),
        resumed_handshakes: sum("afflux_tls_handshakes_total", &["resumed=\"true\""]),
        reported: 0,
    }
}

impl Counted {
    pub fn since(&self, before: &Counted) -> Counted {
        Counted {
            redirected: self.redirected - before.redirected,
            recorded: self.recorded - before.recorded,
            unspooled: self.unspooled - before.unspooled,
            refused: self.refused - before.refused,
            resumed_handshakes: self.resumed_handshakes - before.resumed_handshakes,
            reported: self.reported - before.reported,
        }
    }

    /// What is wrong, where the load saw `answered`, and hung up on `under_way` at most.
    pub fn problems(&self, answered: u64, under_way: u64) -> Vec<String> {
        let mut problems = Vec::new();
        let mut unless = |right: bool, problem: String| {
            if !right {
                problems.push(problem);
            }
        };
        let Counted { redirected, recorded, unspooled, reported, .. } = *self;
        unless(redirected >= answered, format!("{answered} answered, and {redirected} counted as redirected"));
        unless(recorded >= answered, format!("{answered} answered, and {recorded} recorded"));
        unless(recorded <= answered + under_way, format!("{recorded} recorded, and only {answered} answered"));
        unless(unspooled == 0, format!("{unspooled} answered without a record"));
        unless(reported == recorded, format!("{recorded} recorded, and {reported} reported"));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE afflux_edge_requests_total counter\n\
        afflux_edge_requests_total{outcome=\"redirected\"} 70\nafflux_edge_requests_total{outcome=\"overloaded\"} 3\n\
        afflux_spool_records_total{topic=\"clicks\"} 69\nafflux_spool_records_total{topic=\"conversions\"} 5\n\
        afflux_spool_undurable_total{topic=\"clicks\",kind=\"unspooled\"} 1\n\
        afflux_spool_undurable_total{topic=\"clicks\",kind=\"late\"} 9\n\
        afflux_tls_handshakes_total{door=\"edge\",version=\"1.3\",resumed=\"true\"} 4\n";

    #[test]
    fn counters_are_read_by_name_and_label() {
        let expected =
            Counted { redirected: 70, recorded: 69, unspooled: 1, refused: 3, resumed_handshakes: 4, reported: 0 };
        assert_eq!(counted(PAGE), expected);
    }

    #[test]
    fn books_that_are_wrong_are_named() {
        let right = Counted { redirected: 105, recorded: 105, reported: 105, ..Counted::default() };
        assert!(right.problems(100, 64).is_empty());
        assert_eq!(right.problems(106, 64).len(), 2, "answered and not counted, and not recorded");
        assert_eq!(right.problems(40, 64), ["105 recorded, and only 40 answered"]);
        let wrong = Counted { recorded: 104, unspooled: 1, ..right };
        assert_eq!(wrong.problems(100, 64), ["1 answered without a record", "104 recorded, and 105 reported"]);
    }
}
