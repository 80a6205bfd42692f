//! A scenario is a TOML file: what load, of what mix, for how long, what goes wrong meanwhile, and what must hold.
//!
//! Keys of quantities end in their unit. An unknown key is an error that names its place and what is allowed there.

use std::path::Path;

use serde::Deserialize;

/// Those that come with the program.
pub const NAMED: &[(&str, &str)] = &[
    ("browser", include_str!("../scenarios/browser.toml")),
    ("catalog-10m", include_str!("../scenarios/catalog-10m.toml")),
    ("cluster", include_str!("../scenarios/cluster.toml")),
    ("conversions", include_str!("../scenarios/conversions.toml")),
    ("kill9", include_str!("../scenarios/kill9.toml")),
    ("latency", include_str!("../scenarios/latency.toml")),
    ("overload", include_str!("../scenarios/overload.toml")),
    ("peak", include_str!("../scenarios/peak.toml")),
    ("reload", include_str!("../scenarios/reload.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
    ("spike", include_str!("../scenarios/spike.toml")),
];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub title: String,
    pub about: String,
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub catalog: Catalog,
    #[serde(default)]
    pub load: Load,
    #[serde(default)]
    pub mix: Mix,
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub faults: Faults,
    #[serde(default)]
    pub expect: Expect,
    /// Where a server runs already; with it none is started.
    pub running: Option<Running>,
}

/// How the server is started.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// `disk` or `process`, as in its config.
    pub durability: Durability,
    /// Cores of its own, from the first; the others are the generator's.
    pub cores_count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    Disk,
    Process,
}

/// What can be clicked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalog {
    pub links_count: u64,
    pub publishers_count: u64,
    /// A catalog that a running server has, instead of one that is made: its first merchant, and what stands in it.
    pub file: Option<String>,
}

/// How it is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Connections of all lanes together: what is open at most where each click opens one.
    pub connections_count: usize,
    /// A connection for each click, as browsers do; otherwise they are kept, as load balancers do.
    pub new_connections: bool,
    pub tls: bool,
    /// Of the connections, those that speak HTTP/2, over TLS.
    pub http2_percent: f64,
    /// Requests at a time on one of them.
    pub streams_count: usize,
    /// Arrivals that wait for a connection that owes no answer, all lanes together; one more fails unsent.
    pub waiting_arrivals_count: usize,
    /// Without an answer after it a click has failed, and its connection is closed.
    pub timeout_ms: u64,
    /// On which merchants report, of all lanes together.
    pub merchant_connections_count: usize,
}

/// Who comes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Of Zipf's law: 0 is an even spread, 1 what the web does.
    pub links_exponent: f64,
    pub publishers_exponent: f64,
    /// Clicks that name offer, publisher and page instead of a link's code.
    pub deep_link_percent: f64,
    pub bot_percent: f64,
    pub prefetch_percent: f64,
    /// Visitors that bring their cookie.
    pub returning_percent: f64,
    /// Of these, who click what they clicked last.
    pub repeat_percent: f64,
    /// Of the clicks of visitors with a cookie, those that an order follows.
    pub conversion_percent: f64,
    /// After the click; even between the two.
    pub conversion_delay_min_ms: u64,
    pub conversion_delay_max_ms: u64,
    /// Of orders.
    pub refund_percent: f64,
    /// Of orders and refunds, those that are reported once more.
    pub reported_again_percent: f64,
}

/// One load for some seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub name: String,
    pub seconds: f64,
    /// Arrivals a second, all lanes together.
    pub rate_per_s: Option<f64>,
    /// The rate is the part of the peak that a stage before found.
    pub rate_peak_percent: Option<f64>,
    /// Goes evenly there.
    pub to_rate_per_s: Option<f64>,
    /// Of `load.connections_count`, as many as are used.
    pub connections_count: Option<usize>,
    /// A closed loop: each connection asks as soon as it was answered. Finds the peak, and says nothing about latency.
    #[serde(default)]
    pub finds_peak: bool,
    /// Is not written down.
    #[serde(default)]
    pub warms_up: bool,
}

/// What goes wrong, or on, meanwhile.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Kill -9, and a start right after it.
    pub kill_every_s: Option<u64>,
    /// The catalog is written anew with another publisher's name, and the certificates are touched.
    pub reload_every_s: Option<u64>,
    /// Metrics are read.
    pub scrape_every_s: Option<u64>,
}

/// Besides the books, which always must be right.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Answered a second in each stage of more than the peak, of the peak.
    pub goodput_peak_percent: Option<f64>,
    /// Anonymous memory of the server: the largest of the second half of the run, beyond the largest of the first, in which
    /// what is kept in memory fills.
    pub memory_growth_mib: Option<u64>,
    /// Clicks that were neither answered nor told 503, of all that were planned.
    pub failed_percent: Option<f64>,
    /// The same, but for those whose connection was refused or reset, and those that were never sent, as too many waited:
    /// they were left hanging.
    pub untold_count: Option<u64>,
    /// Of every stage in an open loop that is no overload.
    pub latency_p99_ms: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    pub edge_urls: Vec<String>,
    /// Where orders are reported.
    pub intake_urls: Vec<String>,
    pub console_url: String,
    /// Of the edges: what they recorded.
    pub admin_urls: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("{0}: {1}")]
    Unreadable(String, std::io::Error),
    #[error("{0}: {1}")]
    Syntax(String, Box<toml::de::Error>),
    #[error("{0}: {1}")]
    Rule(String, String),
}

impl Scenario {
    /// One of the named, or a file.
    pub fn load(name: &str) -> Result<Scenario, Unusable> {
        if let Some((_, text)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Scenario::parse(name, text);
        }
        let text = std::fs::read_to_string(Path::new(name)).map_err(|error| {
            let known: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            let why = format!("{error}; a file, or one of {}", known.join(" "));
            Unusable::Unreadable(name.into(), std::io::Error::new(error.kind(), why))
        })?;
        Scenario::parse(name, &text)
    }

    pub fn parse(name: &str, text: &str) -> Result<Scenario, Unusable> {
        let scenario: Scenario =
            toml::from_str(text).map_err(|error| Unusable::Syntax(name.into(), Box::new(error)))?;
        scenario.check().map_err(|rule| Unusable::Rule(name.into(), rule))?;
        Ok(scenario)
    }

    /// As if the file said so.
    pub fn with_seconds(mut self, seconds: f64) -> Scenario {
        let whole: f64 = self.stages.iter().map(|stage| stage.seconds).sum();
        self.stages.iter_mut().for_each(|stage| stage.seconds *= seconds / whole);
        self
    }

    /// The highest rate becomes this one, the others go with it. Where rates are parts of the peak, this is the peak, and
    /// it is not looked for.
    pub fn with_rate(mut self, rate_per_s: f64) -> Scenario {
        if self.stages.iter().any(|stage| !stage.finds_peak) {
            self.stages.retain(|stage| !stage.finds_peak);
        }
        let rates = self.stages.iter().flat_map(|stage| [stage.rate_per_s, stage.to_rate_per_s]).flatten();
        let highest = rates.fold(0.0, f64::max);
        for stage in &mut self.stages {
            if let Some(percent) = stage.rate_peak_percent.take() {
                stage.rate_per_s = Some(rate_per_s * percent / 100.0);
            } else {
                stage.rate_per_s = stage.rate_per_s.map(|rate| rate * rate_per_s / highest);
                stage.to_rate_per_s = stage.to_rate_per_s.map(|rate| rate * rate_per_s / highest);
            }
        }
        self
    }

    fn check(&self) -> Result<(), String> {
        let (load, mix) = (&self.load, &self.mix);
        let percents = [
            ("load.http2_percent", load.http2_percent),
            ("mix.deep_link_percent", mix.deep_link_percent),
            ("mix.bot_percent", mix.bot_percent),
            ("mix.prefetch_percent", mix.prefetch_percent),
            ("mix.returning_percent", mix.returning_percent),
            ("mix.repeat_percent", mix.repeat_percent),
            ("mix.conversion_percent", mix.conversion_percent),
            ("mix.refund_percent", mix.refund_percent),
            ("mix.reported_again_percent", mix.reported_again_percent),
        ];
        for (key, percent) in percents {
            within(key, percent, 0.0, 100.0)?;
        }
        within("mix.links_exponent", mix.links_exponent, 0.0, 5.0)?;
        within("mix.publishers_exponent", mix.publishers_exponent, 0.0, 5.0)?;
        within("catalog.links_count", self.catalog.links_count as f64, 1.0, 100_000_000.0)?;
        // The report that the books are checked by has at most 100,000 rows.
        within("catalog.publishers_count", self.catalog.publishers_count as f64, 1.0, 2_000.0)?;
        within("load.connections_count", load.connections_count as f64, 1.0, 100_000.0)?;
        within("load.streams_count", load.streams_count as f64, 1.0, 100.0)?;
        within("load.merchant_connections_count", load.merchant_connections_count as f64, 1.0, 1_000.0)?;
        within("load.waiting_arrivals_count", load.waiting_arrivals_count as f64, 1.0, 10_000_000.0)?;
        within("load.timeout_ms", load.timeout_ms as f64, 1.0, 600_000.0)?;
        within("server.cores_count", self.server.cores_count as f64, 1.0, 1_024.0)?;
        // Closer to the click than this, clocks of two edges might tell another story than the order of events.
        within("mix.conversion_delay_min_ms", mix.conversion_delay_min_ms as f64, 200.0, 86_400_000.0)?;
        within(
            "mix.conversion_delay_max_ms",
            mix.conversion_delay_max_ms as f64,
            mix.conversion_delay_min_ms as f64,
            86_400_000.0,
        )?;
        if load.http2_percent > 0.0 && !load.tls {
            return Err("load.http2_percent: HTTP/2 is spoken over TLS alone; load.tls = true allows it".into());
        }
        if self.running.is_some() && (self.faults.kill_every_s.is_some() || self.faults.reload_every_s.is_some()) {
            return Err(
                "faults: a server that runs already is not ours to kill or rewrite; only scrape_every_s is allowed"
                    .into(),
            );
        }
        if self.running.is_none() && self.catalog.file.is_some() {
            return Err("catalog.file: is for a server that runs already ([running])".into());
        }
        let every = [self.faults.kill_every_s, self.faults.reload_every_s, self.faults.scrape_every_s];
        if every.contains(&Some(0)) {
            return Err("faults: every 0 s; 1 or more is allowed".into());
        }
        self.check_stages()
    }

    fn check_stages(&self) -> Result<(), String> {
        let mut finds_peak = false;
        for (number, stage) in self.stages.iter().enumerate() {
            let key = |name: &str| format!("stages[{number}] ({:?}): {name}", stage.name);
            within(&key("seconds"), stage.seconds, 0.1, 604_800.0)?;
            let rates = [stage.rate_per_s.is_some(), stage.rate_peak_percent.is_some(), stage.finds_peak];
            if rates.iter().filter(|is_set| **is_set).count() != 1 {
                return Err(key("has to have one of rate_per_s, rate_peak_percent and finds_peak = true"));
            }
            for rate in [stage.rate_per_s, stage.to_rate_per_s].into_iter().flatten() {
                within(&key("rate_per_s"), rate, 0.0, 10_000_000.0)?;
            }
            let connections = stage.connections_count.unwrap_or(self.load.connections_count);
            within(&key("connections_count"), connections as f64, 1.0, self.load.connections_count as f64)?;
            if stage.to_rate_per_s.is_some() && stage.rate_per_s.is_none() {
                return Err(key("to_rate_per_s: goes from rate_per_s, which is missing"));
            }
            if stage.rate_peak_percent.is_some() && !finds_peak {
                return Err(key("rate_peak_percent: no stage before it has finds_peak = true"));
            }
            finds_peak |= stage.finds_peak;
        }
        if self.stages.is_empty() { Err("stages: there is none".into()) } else { Ok(()) }
    }
}

fn within(key: &str, value: f64, from: f64, to: f64) -> Result<(), String> {
    if (from..=to).contains(&value) { Ok(()) } else { Err(format!("{key}: {value}; {from} to {to} is allowed")) }
}

impl Default for Server {
    fn default() -> Server {
        Server { durability: Durability::Disk, cores_count: 1 }
    }
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog { links_count: 1_000, publishers_count: 200, file: None }
    }
}

impl Default for Load {
    fn default() -> Load {
        Load {
            connections_count: 64,
            new_connections: false,
            tls: false,
            http2_percent: 0.0,
            streams_count: 16,
            waiting_arrivals_count: 100_000,
            timeout_ms: 10_000,
            merchant_connections_count: 16,
        }
    }
}

impl Default for Mix {
    fn default() -> Mix {
        Mix {
            links_exponent: 1.0,
            publishers_exponent: 1.0,
            deep_link_percent: 30.0,
            bot_percent: 5.0,
            prefetch_percent: 2.0,
            returning_percent: 40.0,
            repeat_percent: 5.0,
            conversion_percent: 0.5,
            conversion_delay_min_ms: 300,
            conversion_delay_max_ms: 2_000,
            refund_percent: 10.0,
            reported_again_percent: 5.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_scenario_parses_and_is_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(found, NAMED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, text) in NAMED {
            let scenario = Scenario::parse(name, text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.title, *name);
        }
    }

    #[test]
    fn every_quantity_has_its_unit_in_its_name() {
        let units = ["seconds", "_s", "_ms", "_per_s", "_percent", "_count", "_mib", "_exponent"];
        for (name, text) in NAMED {
            let table: toml::Table = toml::from_str(text).unwrap();
            let sections = table.values().filter_map(toml::Value::as_table);
            let stages = table["stages"].as_array().unwrap().iter().filter_map(toml::Value::as_table);
            for (key, value) in sections.chain(stages).flatten() {
                let is_number = value.is_integer() || value.is_float();
                assert!(!is_number || units.iter().any(|unit| key.ends_with(unit)), "{name}: {key}");
            }
        }
    }

    const LEAST: &str = "title = 't'\nabout = 'a'\n[[stages]]\nname = 's'\nseconds = 1\nrate_per_s = 10\n";

    #[test]
    fn an_unknown_key_names_its_place_and_what_is_allowed() {
        let error = Scenario::parse("x.toml", &format!("{LEAST}[mix]\nbots_percent = 3\n")).unwrap_err().to_string();
        for part in ["x.toml", "line 8", "bots_percent", "bot_percent", "prefetch_percent"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        let wrong = [
            ("[mix]\nbot_percent = 101\n", "mix.bot_percent: 101; 0 to 100 is allowed"),
            ("[load]\nhttp2_percent = 10\n", "load.http2_percent"),
            ("[[stages]]\nname = 'p'\nseconds = 1\nrate_peak_percent = 50\n", "stages[1] (\"p\"): rate_peak_percent"),
            ("[[stages]]\nname = 'p'\nseconds = 1\n", "stages[1] (\"p\"): has to have one of"),
            ("[faults]\nkill_every_s = 0\n", "faults: every 0 s"),
            ("[mix]\nconversion_delay_min_ms = 10\n", "mix.conversion_delay_min_ms: 10"),
        ];
        for (more, told) in wrong {
            let error = Scenario::parse("x", &format!("{LEAST}{more}")).unwrap_err().to_string();
            assert!(error.contains(told), "{told} in {error}");
        }
        assert!(Scenario::load("no-such-scenario").unwrap_err().to_string().contains("catalog-10m"));
    }

    #[test]
    fn seconds_and_rate_are_scaled_from_outside() {
        let ramp = format!("{LEAST}[[stages]]\nname = 'r'\nseconds = 3\nrate_per_s = 10\nto_rate_per_s = 40\n");
        let scenario = Scenario::parse("x", &ramp).unwrap().with_seconds(2.0).with_rate(400.0);
        assert_eq!(scenario.stages.iter().map(|stage| stage.seconds).collect::<Vec<_>>(), [0.5, 1.5]);
        assert_eq!((scenario.stages[1].rate_per_s, scenario.stages[1].to_rate_per_s), (Some(100.0), Some(400.0)));
        let latency = Scenario::load("latency").unwrap().with_rate(1_000.0);
        let rates: Vec<Option<f64>> = latency.stages.iter().map(|stage| stage.rate_per_s).collect();
        assert_eq!(rates, [Some(500.0), Some(700.0), Some(900.0)]);
        // Where nothing but the peak is looked for, that is what stays.
        assert!(!Scenario::load("peak").unwrap().with_rate(1.0).stages.is_empty());
    }
}
