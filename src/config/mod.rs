//! The configuration: one TOML file, a section for each stage, the unit last in the key, unknown keys refused; any key
//! can be set by `AFFLUX__SECTION__KEY` (contract P13-P16).

mod environment;
mod keys;
mod render;
mod values;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use keys::{IpPrivacy, Keys, VisitorPrivacy};
pub use render::render;
pub use values::{Choice, TimeZone, TokenHash};

use crate::toml_reader::{Section, Source, Violation, Violations};

/// Looked for when no file is named.
pub const DEFAULT_FILE: &str = "config/afflux.toml";

/// What a role is told. Paths are resolved: relative ones start at the config file.
#[derive(Clone, Debug)]
pub struct Config {
    pub keys: Keys,
}

impl std::ops::Deref for Config {
    type Target = Keys;
    fn deref(&self) -> &Keys {
        &self.keys
    }
}

impl Config {
    /// Reads `file`, or the default one if it is there, and the environment's `AFFLUX__…` over it. All violations of
    /// the file together; then those of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Violations> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => String::new(),
            Err(error) => return Err(unreadable(path, &error)),
        };
        let directory = match (file, path.exists()) {
            // Defaults without a file start where the program was started.
            (None, false) => Path::new(""),
            _ => path.parent().unwrap_or(Path::new("")),
        };
        Config::parse(path, &text, directory, environment)
    }

    fn parse(
        path: &Path,
        text: &str,
        directory: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Violations> {
        let variables = environment::collect(environment)?;
        // Without the environment first: an error is then the file's own, with its line.
        let keys = read(path, text)?;
        let keys = if variables.is_empty() { keys } else { environment::apply(path, text, &variables)? };
        Ok(Config { keys: resolved(keys, directory) })
    }

    /// Where the made keys and the order index lie: beside the store.
    pub fn data_directory(&self) -> &Path {
        self.store.path.parent().unwrap_or(Path::new("."))
    }

    /// The configured key file, or the one that `serve` makes.
    pub fn keys_file(&self) -> PathBuf {
        self.click.keys_file.clone().unwrap_or_else(|| self.data_directory().join("click.keys"))
    }
}

fn read(path: &Path, text: &str) -> Result<Keys, Violations> {
    let source = Source::new(path, text);
    let document = source.parse().map_err(single)?;
    let nothing = Source::new(path, "");
    let empty_document = nothing.parse().map_err(single)?;
    let violations = RefCell::default();
    let root = Section::root(&source, &document, &violations);
    let empty = Section::root(&nothing, &empty_document, &violations);
    let keys = Keys::read(&root, &empty);
    root.finish();
    let violations = violations.into_inner();
    if violations.is_empty() { Ok(keys) } else { Err(violations) }
}

fn single(violation: Violation) -> Violations {
    Violations { listed: vec![violation], unlisted: 0 }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Violations {
    single(Violation {
        file: path.to_owned(),
        line: 1,
        key: String::new(),
        message: format!("cannot be read: {error}"),
    })
}

fn resolved(mut keys: Keys, directory: &Path) -> Keys {
    let resolve = |path: &mut PathBuf| *path = directory.join(&*path);
    resolve(&mut keys.store.path);
    resolve(&mut keys.spool.directory);
    for path in [&mut keys.catalog.path, &mut keys.click.keys_file, &mut keys.edge.bots_file] {
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
    fn p13_unknown_keys_and_sections_are_refused_all_at_once() {
        let error =
            parse("[edge]\nlisten = \"nowhere\"\ncolour = 1\n[kafka]\nbootstrap_servers = \"x\"\n", &[]).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(
            lines[0].starts_with("/etc/afflux/afflux.toml:2: edge.listen: \"nowhere\" is no address, an IP"),
            "{error}"
        );
        assert!(lines[1].starts_with("/etc/afflux/afflux.toml:3: edge.colour: unknown key"), "{error}");
        assert!(
            lines[2].starts_with("/etc/afflux/afflux.toml:4: kafka: unknown key, allowed here: edge, api"),
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
            ("AFFLUX__KAFKA__BOOTSTRAP_SERVERS", "x"),
            ("AFFLUX__SPOOL__KEEP_DAYS", "many"),
            ("AFFLUX__SPOOL", "x"),
        ] {
            let error = parse("", &[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
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
