//! The click keys of a role: read from `click.keys_file`, or made once by `serve` in the data directory (contract P17).

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::preflight;
use crate::click::Keys;
use crate::config::Config;
use crate::metrics::{Counter, Page};
use crate::toml_reader::Violation;

const KEY: &str = "click.keys_file";

/// Reads the keys of the configured file, or those that were made. What is wrong in it is told with its line.
pub fn read(config: &Config) -> Result<Keys, Violation> {
    let file = config.keys_file();
    let text = preflight::text_of(config, KEY, &file)?;
    Keys::parse(&text).map_err(|error| {
        let (line, message) = (error.line(), error.to_string());
        Violation { file, line, key: String::new(), message }
    })
}

/// Reads the keys, and makes them before if none are configured and there are none yet. Two starts at once agree on one
/// file: it gets its name only when it is whole.
pub fn read_or_make(config: &Config) -> Result<Keys, Violation> {
    let path = config.keys_file();
    if config.click.keys_file.is_none() && !path.exists() {
        make(&path).map_err(|error| config.violation(KEY, format!("{} cannot be made: {error}", path.display())))?;
    }
    read(config)
}

/// What came of reloading the keys while the process runs (contract P9).
#[derive(Default)]
pub struct KeyReloads {
    last_failed: AtomicBool,
    succeeded: Counter,
    failed: Counter,
}

impl KeyReloads {
    /// Takes the new signing keys of a configured file; one that is wrong is refused and the old ones stay. Made keys do
    /// not change.
    pub fn reload(&self, config: &Config, keys: &Keys) {
        if config.click.keys_file.is_none() {
            return;
        }
        let read = read(config).map_err(|violation| violation.to_string());
        let file = || config.keys_file().display().to_string();
        let replaced = read.and_then(|read| keys.replace(read).map_err(|error| format!("{}: {error}", file())));
        self.last_failed.store(replaced.is_err(), Relaxed);
        match replaced {
            Ok(()) => {
                self.succeeded.add(1);
                tracing::info!("keys reloaded");
            }
            Err(error) => {
                self.failed.add(1);
                tracing::error!("the keys were not reloaded, the old ones stay: {error}");
            }
        }
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let successful = u8::from(!self.last_failed.load(Relaxed));
        let help = "1 when the last reload of the keys was taken.";
        page.gauge("afflux_click_keys_last_reload_successful", help, &[(&[], successful)]);
        let results =
            [(&[("result", "success")][..], self.succeeded.value()), (&[("result", "failure")], self.failed.value())];
        page.counter("afflux_click_keys_reloads_total", "Reloads of the keys by result.", &results);
    }
}

fn make(path: &Path) -> std::io::Result<()> {
    let mut random = [0; 64];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| std::io::Error::other("no randomness from the system"))?;
    let unfinished = path.with_extension(format!("keys.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(Keys::file_text(&random).as_bytes())?;
    file.sync_all()?;
    // A hard link fails where the name exists: whoever came first wins.
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config whose data directory is `home`.
    fn config(home: &Path, keys_file: Option<&str>) -> Config {
        let mut variables = vec![("AFFLUX__STORE__PATH".to_owned(), home.join("store").display().to_string())];
        variables.extend(keys_file.map(|file| ("AFFLUX__CLICK__KEYS_FILE".to_owned(), file.to_owned())));
        let file = home.join("afflux.toml");
        std::fs::write(&file, "").unwrap();
        Config::load(Some(&file), variables).unwrap()
    }

    #[test]
    fn p17_keys_are_made_once() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path(), None);
        let first = read_or_make(&config).unwrap();
        let second = read_or_make(&config).unwrap();
        assert_eq!(first.derive("x"), second.derive("x"));
        // Beside the config file.
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
    }

    #[test]
    fn p3_a_bad_file_is_named_with_its_line_and_a_missing_one_by_what_names_it() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path(), Some("my.keys"));
        let said = || read_or_make(&config).unwrap_err().to_string().replace(&home.path().display().to_string(), "");
        assert!(said().starts_with("environment:1: AFFLUX__CLICK__KEYS_FILE: /my.keys: No such file"), "{}", said());
        std::fs::write(home.path().join("my.keys"), "# mine\n0:zz\n").unwrap();
        assert!(said().starts_with("/my.keys:2: not `NUMBER:HEX`"), "{}", said());
        std::fs::write(home.path().join("my.keys"), "").unwrap();
        assert!(said().starts_with("/my.keys:1: no signing key: a line"), "{}", said());
    }
}
