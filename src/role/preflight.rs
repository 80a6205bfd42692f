//! What the config names and a start would stumble over: looked at before anything is started, and by `check`. All that
//! is wrong is told together, each with the place that named it (contract P2, P3).

use std::path::Path;

use super::{Failure, certificates, keys, place};
use crate::config::Config;
use crate::edge::Bots;
use crate::toml_reader::{Violation, Violations};

/// `result`, unless it or what the config names is wrong.
pub fn together<T>(config: &Config, result: Result<T, Violations>) -> Result<T, Failure> {
    let mut violations = Violations::default();
    config.room_violation().into_iter().for_each(|violation| violations.add(violation));
    if config.click.keys_file.is_some() {
        keys::read(config).err().into_iter().for_each(|violation| violations.add(violation));
    }
    place::postgres(config).err().into_iter().for_each(|violation| violations.add(violation));
    bots(config).err().into_iter().for_each(|violation| violations.add(violation));
    certificates::look(config).err().into_iter().for_each(|found| violations.extend(found));
    let result = result.map_err(|found| violations.extend(found));
    violations.none().map_err(Failure::usage)?;
    // Without violations there is a value.
    result.map_err(|()| Failure::usage(Violations::default()))
}

/// The patterns of `edge.bots_file`, else the built-in ones.
pub fn bots(config: &Config) -> Result<Bots, Violation> {
    let Some(path) = &config.edge.bots_file else {
        return Bots::built_in().map_err(|error| config.violation("edge.bots_file", error.to_string()));
    };
    let text = text_of(config, "edge.bots_file", path)?;
    Bots::parse(&text).map_err(|error| config.violation("edge.bots_file", format!("{}: {error}", path.display())))
}

/// The text of a file that `key` names.
pub fn text_of(config: &Config, key: &str, path: &Path) -> Result<String, Violation> {
    std::fs::read_to_string(path).map_err(|error| {
        config.violation(key, format!("{}: {error}; a file that can be read is allowed", path.display()))
    })
}
