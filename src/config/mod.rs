//! The configuration: one TOML file, a section for each stage, the unit last in the key, unknown keys refused; any key
//! can be set by `AFFLUX__SECTION__KEY` (contract P13-P16).

mod environment;
mod keys;
mod places;
mod plan;
mod render;
mod values;

use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

pub use keys::{IpPrivacy, Keys, ProxyListener, VisitorPrivacy};
pub use plan::{plan, warnings};
pub use render::render;
pub use values::{HttpsPort, TimeZone};

use places::Places;

use crate::spool::LEAST_SEGMENTS;
pub use crate::toml_reader::{Choice, TokenHash};
use crate::toml_reader::{Section, Source, Violation, Violations};

/// Looked for when no file is named.
pub const DEFAULT_FILE: &str = "config/afflux.toml";

/// What a role is told. Paths are resolved: relative ones start at the config file.
#[derive(Clone, Debug)]
pub struct Config {
    pub keys: Keys,
    places: Places,
}

impl std::ops::Deref for Config {
    type Target = Keys;
    fn deref(&self) -> &Keys {
        &self.keys
    }
}

impl Config {
    /// Reads `file`, or the default one if it is there, and the environment's `AFFLUX__…` over it. All violations of
    /// both together.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Violations> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match read_text(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => None,
            result => Some(result.map_err(|error| Violation::unreadable(path, &error))?),
        };
        // Defaults without a file start where the program was started.
        let directory = text.as_ref().and_then(|_| path.parent()).unwrap_or(Path::new(""));
        Config::parse(path, text.as_deref().unwrap_or_default(), directory, environment)
    }

    fn parse(
        path: &Path,
        text: &str,
        directory: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Violations> {
        let (variables, mut violations) = environment::collect(environment);
        Source::new(path, text).parse()?;
        // Without the environment first: a violation is then the file's own, with its line.
        let file = read(path, text);
        let keys = environment::apply(path, text, &variables, file, &mut violations);
        violations.none()?;
        // Without violations there are keys.
        let keys = keys.ok_or_else(Violations::default)?;
        let places = Places::of(path, text, &variables);
        Ok(Config { keys: resolved(keys, directory), places })
    }

    /// What is wrong with the value of `key` (`section.key`), found out later than by reading: with the place that set it.
    pub fn violation(&self, key: &str, message: impl Into<String>) -> Violation {
        self.places.violation(key, message.into())
    }

    /// Threads of the edge.
    pub fn workers(&self) -> usize {
        match self.edge.workers.0 as usize {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            count => count,
        }
    }

    /// Segments are mapped: whole pages.
    pub fn segment_bytes(&self) -> u64 {
        self.spool.segment_bytes.0.next_multiple_of(4_096)
    }

    /// The violation of a `spool.max_bytes` that the segments of an idle process would fill.
    pub fn room_violation(&self) -> Option<Violation> {
        // One spool for each worker, one for intake.
        let spools = self.workers() as u64 + 1;
        let least = LEAST_SEGMENTS * spools * self.segment_bytes();
        let bytes = self.spool.max_bytes.0;
        (1..least).contains(&bytes).then(|| {
            let allowed = format!(
                "{bytes} bytes are too few; 0 is allowed, or at least {least}: {LEAST_SEGMENTS} segments of \
                 {} bytes (spool.segment_bytes) for each of {spools} spools (edge.workers + 1)",
                self.segment_bytes()
            );
            self.violation("spool.max_bytes", allowed)
        })
    }

    /// Where the made keys and the order index lie: beside the store.
    pub fn data_directory(&self) -> &Path {
        // Of a name alone the parent is empty.
        self.store.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// The configured key file, or the one that `serve` makes.
    pub fn keys_file(&self) -> PathBuf {
        self.click.keys_file.clone().unwrap_or_else(|| self.data_directory().join("click.keys"))
    }
}

/// The environment as `load` takes it. What is not UTF-8 is read with replacement characters: a broken variable of ours
/// is then refused by its name, and one of somebody else's is no matter.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// A config is a few kilobytes; more is another file by mistake.
const MOST_BYTES: u64 = 1 << 20;

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other("larger than the 1 MiB that is allowed"));
    }
    Ok(text)
}

fn read(path: &Path, text: &str) -> Result<Keys, Violations> {
    let source = Source::new(path, text);
    let document = source.parse()?;
    let nothing = Source::new(path, "");
    let empty_document = nothing.parse()?;
    let violations = RefCell::default();
    let root = Section::root(&source, &document, &violations);
    let empty = Section::root(&nothing, &empty_document, &violations);
    let keys = Keys::read(&root, &empty);
    check_listeners(&keys, &root);
    check_shutdown(&keys, &root);
    root.finish();
    violations.into_inner().none()?;
    Ok(keys)
}

/// Two doors on one address: the second could not be bound.
fn check_listeners(keys: &Keys, root: &Section<'_>) {
    let mut doors = vec![
        ("edge", "listen", keys.edge.listen),
        ("api", "listen", keys.api.listen),
        ("admin", "listen", keys.admin.listen),
    ];
    if keys.edge.tls_certificate_file.is_some() || keys.edge.tls_directory.is_some() {
        doors.push(("edge", "tls_listen", keys.edge.tls_listen));
    }
    if keys.api.tls_certificate_file.is_some() {
        doors.push(("api", "tls_listen", keys.api.tls_listen));
    }
    for (index, (section, key, listen)) in doors.iter().enumerate() {
        let other = doors[..index].iter().find(|(.., other)| other == listen && listen.port() != 0);
        if let Some((other, other_key, _)) = other {
            let line = root.section(section).map_or(1, |section| section.line_of(key));
            let message = format!("{listen} is {other}.{other_key} too, an address and port of its own is allowed");
            root.violation_at(line, &format!("{section}.{key}"), message);
        }
    }
}

/// A stop that waits as long as it may take would always be cut off.
fn check_shutdown(keys: &Keys, root: &Section<'_>) {
    let (delay_ms, deadline_s) = (keys.shutdown.readiness_delay_ms.0, keys.shutdown.deadline_s.0);
    if delay_ms >= deadline_s * 1_000 {
        let line = root.section("shutdown").map_or(1, |section| section.line_of("readiness_delay_ms"));
        let message = format!("{delay_ms} is not below shutdown.deadline_s ({deadline_s}), less than that is allowed");
        root.violation_at(line, "shutdown.readiness_delay_ms", message);
    }
}

fn resolved(mut keys: Keys, directory: &Path) -> Keys {
    let resolve = |path: &mut PathBuf| *path = directory.join(&*path);
    resolve(&mut keys.store.path);
    resolve(&mut keys.spool.directory);
    for path in [
        &mut keys.catalog.path,
        &mut keys.click.keys_file,
        &mut keys.edge.bots_file,
        &mut keys.edge.datacenters_file,
        &mut keys.edge.tls_certificate_file,
        &mut keys.edge.tls_key_file,
        &mut keys.edge.tls_directory,
        &mut keys.api.tls_certificate_file,
        &mut keys.api.tls_key_file,
        &mut keys.postgresql.url_file,
        &mut keys.redis.password_file,
    ] {
        path.as_mut().map(resolve);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(Path::new("/etc/afflux/afflux.toml"), text, Path::new("/etc/afflux"), environment)
            .map_err(|violations| violations.to_string())
    }

    #[test]
    fn every_default_is_valid() {
        let config = parse("", &[]).unwrap();
        assert_eq!(config.spool.directory, Path::new("/etc/afflux/data/spool"));
        assert_eq!(config.keys_file(), Path::new("/etc/afflux/data/click.keys"));
        assert_eq!(config.spool.keep_days.0, 7);
    }

    #[test]
    fn p13_a_file_named_from_where_one_stands_has_its_data_there() {
        let text = "[store]\npath = \"books.sqlite\"";
        let config = Config::parse(Path::new("afflux.toml"), text, Path::new(""), []).unwrap();
        assert_eq!(config.data_directory(), Path::new("."));
        assert_eq!(config.keys_file(), Path::new("./click.keys"));
    }

    #[test]
    fn p13_unknown_keys_and_sections_are_refused_all_at_once() {
        let error =
            parse("[edge]\nlisten = \"nowhere\"\ncolour = 1\n[broker]\nbootstrap_servers = \"x\"\n", &[]).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(
            lines[0].starts_with("/etc/afflux/afflux.toml:2: edge.listen: \"nowhere\" is no address, an IP"),
            "{error}"
        );
        assert!(lines[1].starts_with("/etc/afflux/afflux.toml:3: edge.colour: unknown key"), "{error}");
        assert!(
            lines[2].starts_with("/etc/afflux/afflux.toml:4: broker: unknown key, allowed here: edge, api"),
            "{error}"
        );
    }

    #[test]
    fn p14_the_environment_sets_any_key() {
        let config = parse(
            "[spool]\nkeep_days = 3\n",
            &[
                ("AFFLUX__SPOOL__KEEP_DAYS", "5"),
                ("AFFLUX__SPOOL__DURABILITY", "process"),
                ("AFFLUX__EDGE__NAME", "edge 7"),
                ("AFFLUX__API__OPERATOR_TOKENS_SHA256", &format!("[\"{}\"]", "ab".repeat(32))),
                ("HOME", "/root"),
            ],
        )
        .unwrap();
        assert_eq!(config.spool.keep_days.0, 5);
        assert_eq!(config.spool.durability.0, crate::spool::Durability::Process);
        assert_eq!(config.edge.name.as_deref(), Some("edge 7"));
        assert_eq!(config.api.operator_tokens_sha256.len(), 1);
    }

    #[test]
    fn p14_an_unknown_variable_or_a_wrong_value_names_the_variable() {
        for (name, value) in [
            ("AFFLUX__SPOOL__COLOUR", "1"),
            ("AFFLUX__KAFKA__SERVERS", "x"),
            ("AFFLUX__SPOOL__KEEP_DAYS", "many"),
            ("AFFLUX__SPOOL", "x"),
        ] {
            let error = parse("", &[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn p3_file_and_environment_are_judged_together() {
        let text = "[edge]\nworkers = 5000\n[spool]\nkeep_days = 3\n";
        let variables = [("AFFLUX__SPOOL__DURABILITY", "ram"), ("AFFLUX__EDGE__COLOUR", "1")];
        let error = parse(text, &variables).unwrap_err();
        assert_eq!(error.lines().count(), 3, "{error}");
        for part in ["afflux.toml:2: edge.workers: 5000", "AFFLUX__SPOOL__DURABILITY: ", "AFFLUX__EDGE__COLOUR: "] {
            assert!(error.contains(part), "{error}");
        }
        let error = parse("[edge\nx", &variables).unwrap_err();
        assert!(error.starts_with("/etc/afflux/afflux.toml:1: not TOML"), "{error}");
    }

    #[test]
    fn two_doors_have_two_addresses() {
        let error = parse("[api]\n\nlisten = \"127.0.0.1:8080\"\n", &[]).unwrap_err();
        assert!(
            error.starts_with("/etc/afflux/afflux.toml:3: api.listen: 127.0.0.1:8080 is edge.listen too"),
            "{error}"
        );
        assert!(parse("[edge]\nlisten = \"[::]:0\"\n[api]\nlisten = \"[::]:0\"\n", &[]).is_ok());
        let error = parse("", &[("AFFLUX__EDGE__LISTEN", "127.0.0.1:8081")]).unwrap_err();
        assert!(error.contains("api.listen: 127.0.0.1:8081 is edge.listen too"), "{error}");
    }

    #[test]
    fn p7_the_delay_of_a_stop_is_below_its_deadline() {
        let error = parse("[shutdown]\ndeadline_s = 5\nreadiness_delay_ms = 5000\n", &[]).unwrap_err();
        let said = "/etc/afflux/afflux.toml:3: shutdown.readiness_delay_ms: 5000 is not below shutdown.deadline_s (5)";
        assert!(error.starts_with(said), "{error}");
        let config = parse("[shutdown]\ndeadline_s = 5\nreadiness_delay_ms = 4999\n", &[]).unwrap();
        assert_eq!(config.shutdown.readiness_delay_ms.0, 4_999);
    }

    #[test]
    fn p3_what_is_found_wrong_later_names_what_set_it() {
        let config = parse("[edge]\n\nlisten = \"127.0.0.1:1\"\n", &[("AFFLUX__API__LISTEN", "127.0.0.1:2")]).unwrap();
        let said = |key: &str| config.violation(key, "taken").to_string();
        assert_eq!(said("edge.listen"), "/etc/afflux/afflux.toml:3: edge.listen: taken");
        assert_eq!(said("api.listen"), "environment:1: AFFLUX__API__LISTEN: taken");
        assert_eq!(said("admin.listen"), "default:1: admin.listen: taken");
    }

    #[test]
    fn p18_a_bound_below_three_segments_a_spool_is_refused() {
        let room = |bytes: u64| {
            let text = format!("[edge]\nworkers = 8\n[spool]\nsegment_bytes = 1048576\nmax_bytes = {bytes}\n");
            parse(&text, &[]).unwrap().room_violation().map(|violation| violation.to_string())
        };
        assert_eq!(room(0), None);
        assert_eq!(room(27 << 20), None);
        for bytes in [1, 16 << 20, (27 << 20) - 1] {
            let said = room(bytes).unwrap();
            assert!(
                said.starts_with("/etc/afflux/afflux.toml:5: spool.max_bytes: ") && said.contains("28311552"),
                "{said}"
            );
        }
    }

    #[test]
    fn p1_a_named_file_that_is_missing_is_refused() {
        let error = Config::load(Some(Path::new("/nowhere/afflux.toml")), []).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/afflux.toml:1: cannot be read: "), "{error}");
    }

    #[test]
    fn p15_a_token_in_place_of_its_hash_is_not_repeated() {
        let error = parse("[api]\noperator_tokens_sha256 = [\"hunter2\"]\n", &[]).unwrap_err();
        assert!(error.contains("operator_tokens_sha256: entry 1: ") && !error.contains("hunter2"), "{error}");
        let error = parse("", &[("AFFLUX__API__OPERATOR_TOKENS_SHA256", "hunter2")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_example_of_an_edge_is_whole() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/edge.toml");
        let config = Config::load(Some(Path::new(path)), []).unwrap();
        assert!(config.click.keys_file.is_some() && config.kafka.bootstrap_servers.is_some());
    }

    #[test]
    fn the_example_of_an_attribution_is_whole() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/attribution.toml");
        let config = Config::load(Some(Path::new(path)), []).unwrap();
        assert!(config.click.keys_file.is_some() && config.kafka.bootstrap_servers.is_some());
        assert!(config.postgresql.url_file.is_some());
    }

    #[test]
    fn the_committed_file_is_the_rendered_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/afflux.toml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        if std::env::var_os("AFFLUX_RENDER").is_some() {
            std::fs::write(path, render()).unwrap();
            return;
        }
        assert!(committed == render(), "run `AFFLUX_RENDER=1 cargo test --lib the_committed_file` and commit the file");
        parse(&committed, &[]).unwrap();
    }
}
