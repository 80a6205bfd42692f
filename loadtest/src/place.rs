//! Where clicks go: to a server that was started for them, or to one that was there.

use std::path::Path;

use crate::ledger::Interface;
use crate::market::Market;
use crate::scenario::Scenario;
use crate::server::{OPERATOR, Server};
use crate::wire::Target;

pub struct Place {
    pub server: Option<Server>,
    pub edges: Vec<Target>,
    pub intakes: Vec<Target>,
    pub interface: Interface,
}

impl Place {
    /// `afflux` is the program to start, in `home` and on `cores`.
    pub fn find(
        scenario: &Scenario,
        market: &Market,
        afflux: &Path,
        home: &Path,
        cores: &[usize],
    ) -> anyhow::Result<Place> {
        if let Some(running) = &scenario.running {
            let targets = |urls: &[String]| urls.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>();
            let interface = Interface {
                console: Target::parse(&running.console_url)?,
                admins: targets(&running.admin_urls)?,
                operator_token: token("AFFLUX_OPERATOR_TOKEN", OPERATOR),
            };
            let (edges, intakes) = (targets(&running.edge_urls)?, targets(&running.intake_urls)?);
            return Ok(Place { server: None, edges, intakes, interface });
        }
        let server = Server::start(afflux, home, cores, scenario, market)?;
        let addresses = server.addresses;
        let edge = match addresses.edge_tls.filter(|_| scenario.load.tls) {
            Some(tls) => Target::local(tls, true),
            None => Target::local(addresses.edge, false),
        };
        let console = Target::local(addresses.api, false);
        let admins = vec![Target::local(addresses.admin, false)];
        let interface = Interface { console: console.clone(), admins, operator_token: OPERATOR.into() };
        Ok(Place { server: Some(server), edges: vec![edge], intakes: vec![console], interface })
    }

    /// 0 where the server is not ours.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().map_or(0, Server::pid)
    }

    /// What goes wrong, or on, in this second of a run.
    pub fn strike(&mut self, scenario: &Scenario, market: &Market, second: u64) -> anyhow::Result<()> {
        let is_time = |every: Option<u64>| every.is_some_and(|every| second.is_multiple_of(every));
        let faults = &scenario.faults;
        if is_time(faults.scrape_every_s) {
            for admin in &self.interface.admins {
                self.interface.metrics(admin)?;
            }
        }
        if let Some(server) = &mut self.server {
            if is_time(faults.reload_every_s) {
                server.rewrite(market)?;
            }
            if is_time(faults.kill_every_s) {
                eprintln!("kill -9");
                server.kill_and_start()?;
            }
        }
        Ok(())
    }
}

/// Tokens of a server that runs already, as `make cluster` and `make run` have them, or from the environment.
pub fn token(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.into())
}
