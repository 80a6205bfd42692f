//! What `afflux check` says: what this config and catalog would start, and what an operator may have forgotten.

use std::fmt::Write;

use super::{Config, IpPrivacy, VisitorPrivacy};
use crate::catalog::Snapshot;
use crate::spool::Durability;
use crate::toml_reader::Int;

/// A line for each stage (contract P1). No secret stands in it.
pub fn plan(config: &Config, catalog: &Snapshot) -> String {
    let mut text = String::new();
    for (stage, what) in stages(config, catalog) {
        // Writing into a String does not fail.
        let _ = writeln!(text, "{stage:<10} {what}");
    }
    text
}

fn stages(config: &Config, catalog: &Snapshot) -> [(&'static str, String); 9] {
    let workers = match config.edge.workers {
        Int(0) => "a worker for each core".to_owned(),
        Int(count) => counted(count, "worker"),
    };
    let tokens = counted(config.api.operator_tokens_sha256.len() as u64, "operator token");
    let path = config.catalog.path.as_ref();
    let counts = catalog.counts().map(|(kind, count)| counted(count as u64, kind.trim_end_matches('s'))).join(", ");
    let keys = if config.click.keys_file.is_some() { "" } else { ", made at the first start" };
    [
        ("edge", format!("{}, {workers}", config.edge.listen)),
        ("api", format!("{}, {tokens}", config.api.listen)),
        ("admin", config.admin.listen.to_string()),
        ("catalog", format!("{}: {counts}", path.map_or("none".into(), |path| path.display().to_string()))),
        ("rules", catalog.hash.clone()),
        ("click", format!("keys in {}{keys}", config.keys_file().display())),
        ("spool", spool(config)),
        ("store", format!("{}, reports in {}", config.store.path.display(), time_zone(config))),
        ("privacy", privacy(config)),
    ]
}

fn spool(config: &Config) -> String {
    let spool = &config.spool;
    let durability = match (spool.durability.0, spool.disk_wait_max_ms.0) {
        (Durability::Disk, 0) => "an answer waits for the disk without limit".to_owned(),
        (Durability::Disk, limit_ms) => format!("an answer waits at most {limit_ms} ms for the disk"),
        (Durability::Process, _) => format!("an answer does not wait, synced each {} ms", spool.sync_interval_ms.0),
    };
    let room = match spool.max_bytes.0 {
        0 => "10 % of the file system or 1 GiB".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    let (directory, keep_days) = (spool.directory.display(), counted(spool.keep_days.0, "day"));
    format!("{directory}, {durability}, segments of {} bytes, at most {room}, kept {keep_days}", spool.segment_bytes.0)
}

fn time_zone(config: &Config) -> &str {
    config.report.time_zone.0.iana_name().unwrap_or("UTC")
}

fn privacy(config: &Config) -> String {
    let addresses = match config.privacy.ip.0 {
        IpPrivacy::Cut => "cut",
        IpPrivacy::Full => "full",
        IpPrivacy::None => "left out",
    };
    let visitors = match config.privacy.visitor.0 {
        VisitorPrivacy::Full => "kept",
        VisitorPrivacy::None => "left out",
    };
    format!("addresses {addresses}, visitor cookies {visitors}")
}

/// What may have been forgotten (contract P20): it starts all the same.
pub fn warnings(config: &Config, catalog: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.catalog.path.is_none() {
        warnings.push("catalog.path: no catalog is configured, every link is a 404".to_owned());
    } else if catalog.offers.is_empty() {
        warnings.push("catalog.path: the catalog has no offers, every link is a 404".to_owned());
    }
    if config.api.operator_tokens_sha256.is_empty() {
        warnings.push("api.operator_tokens_sha256: no operator can read reports".to_owned());
    }
    if !config.admin.listen.ip().is_loopback() {
        warnings.push(format!("admin.listen: {} can be reached from other machines", config.admin.listen));
    }
    if !config.edge.proxy_protocol.is_empty() && config.edge.trusted_proxies.is_empty() {
        let message =
            "edge.proxy_protocol: without edge.trusted_proxies whoever reaches the listener can name any address";
        warnings.push(message.to_owned());
    }
    warnings.extend(merchant_warnings(config, catalog));
    warnings.extend(offer_warnings(catalog));
    warnings
}

fn merchant_warnings(config: &Config, catalog: &Snapshot) -> Vec<String> {
    let mut merchants: Vec<_> = catalog.merchants.values().collect();
    merchants.sort_by_key(|merchant| merchant.id);
    let mut warnings = Vec::new();
    for merchant in merchants {
        let tokens = || merchant.bearer_tokens_sha256.iter().chain(&merchant.postback_tokens_sha256);
        if tokens().next().is_none() && merchant.signing_secrets.is_empty() {
            warnings.push(format!("merchant {}: no token and no secret, its reports are refused", merchant.id));
        }
        if config.api.operator_tokens_sha256.iter().any(|operator| tokens().any(|token| *token == operator.0)) {
            warnings.push(format!("merchant {}: a token of it is an operator's too, it reads everything", merchant.id));
        }
    }
    warnings
}

fn offer_warnings(catalog: &Snapshot) -> Vec<String> {
    let without_terms = catalog.rulebook.offers.iter().filter(|(_, offer)| offer.terms.is_empty());
    without_terms.map(|(id, _)| format!("offer {id}: no terms, its clicks are rejected as offer_ended")).collect()
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::catalog;

    const TOKEN: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    /// The plan and the warnings.
    fn plan_of(text: &str, catalog: &Snapshot) -> (String, String) {
        let config = Config::parse(Path::new("/c/afflux.toml"), text, Path::new("/c"), []).unwrap();
        (plan(&config, catalog), warnings(&config, catalog).join("\n"))
    }

    #[test]
    fn p20_no_catalog_is_a_warning() {
        let (plan, warnings) = plan_of("", &Snapshot::empty());
        assert!(plan.contains("catalog    none: 0 merchants, 0 offers, 0 publishers, 0 links, 0 coupons\n"), "{plan}");
        assert!(warnings.starts_with("catalog.path: no catalog is configured"), "{warnings}");
        assert!(plan.contains("edge       127.0.0.1:8080, a worker for each core\n"), "{plan}");
        assert!(plan.contains("spool      /c/data/spool, an answer waits at most 50 ms for the disk, "), "{plan}");
    }

    #[test]
    fn the_demo_has_nothing_to_warn_of_but_the_operator() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/catalog.toml");
        let loaded = catalog::load(Path::new(path)).unwrap_or_else(|violations| panic!("{violations}"));
        let config = format!("[api]\noperator_tokens_sha256 = [\"{}\"]\n[catalog]\npath = {path:?}\n", "ab".repeat(32));
        let (plan, warnings) = plan_of(&config, &loaded.snapshot);
        assert!(plan.contains("catalog.toml: 1 merchant, 1 offer, 2 publishers, 1 link, 1 coupon\n"), "{plan}");
        assert!(warnings.is_empty() && !plan.contains("demo-signing-secret"), "{plan}{warnings}");
        let (_, warnings) = plan_of(&config.replace(&"ab".repeat(32), TOKEN), &loaded.snapshot);
        assert!(warnings.contains("merchant 1: a token of it is an operator's too"), "{warnings}");
    }

    #[test]
    fn what_was_forgotten_is_told() {
        let config = "[edge]\nproxy_protocol = [\"listen\"]\n[admin]\nlisten = \"0.0.0.0:1\"\n[spool]\ndurability = \"process\"\n";
        let (plan, warnings) = plan_of(config, &Snapshot::empty());
        for part in ["admin.listen: 0.0.0.0:1", "edge.proxy_protocol: without", "api.operator_tokens"] {
            assert!(warnings.contains(part), "{warnings}");
        }
        assert!(plan.contains("an answer does not wait, synced each 5 ms"), "{plan}");
    }
}
