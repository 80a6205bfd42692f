//! What the config names and a start would stumble over: looked at before anything is started, and by `check`. All that
//! is wrong is told together, each with the place that named it (contract P2, P3).

use std::path::Path;

use super::{Failure, certificates, keys, place};
use crate::config::Config;
use crate::edge::{BadList, Places};
use crate::files::Files;
use crate::toml_reader::{Violation, Violations};

/// `result`, unless it or what the config names is wrong.
pub fn together<T>(config: &Config, result: Result<T, Violations>) -> Result<T, Failure> {
    let mut violations = Violations::default();
    config.room_violation().into_iter().for_each(|violation| violations.add(violation));
    if config.click.keys_file.is_some() {
        keys::read(config).err().into_iter().for_each(|violation| violations.add(violation));
    }
    place::postgres(config).err().into_iter().for_each(|violation| violations.add(violation));
    let places = places(config);
    let (bots, datacenters) = (places.bots(&mut Files::default()), places.datacenters(&mut Files::default()));
    bots.err().into_iter().for_each(|bad| violations.add(bad_list(config, "edge.bots_file", bad)));
    datacenters.err().into_iter().for_each(|bad| violations.add(bad_list(config, "edge.datacenters_file", bad)));
    certificates::look(config).err().into_iter().for_each(|found| violations.extend(found));
    let result = result.map_err(|found| violations.extend(found));
    violations.none().map_err(Failure::usage)?;
    // Without violations there is a value.
    result.map_err(|()| Failure::usage(Violations::default()))
}

/// Where the lists lie that labels are found with.
pub fn places(config: &Config) -> Places {
    Places { bots: config.edge.bots_file.clone(), datacenters: config.edge.datacenters_file.clone() }
}

/// What is wrong inside of a list is told with its line, a list that cannot be read with the key that names it.
fn bad_list(config: &Config, key: &str, bad: BadList) -> Violation {
    match bad {
        BadList::Wrong { file, line, message } => Violation { file, line, key: String::new(), message },
        BadList::Unreadable { .. } | BadList::BuiltIn(_) => config.violation(key, bad.to_string()),
    }
}

/// The text of a file that `key` names.
pub fn text_of(config: &Config, key: &str, path: &Path) -> Result<String, Violation> {
    std::fs::read_to_string(path).map_err(|error| {
        config.violation(key, format!("{}: {error}; a file that can be read is allowed", path.display()))
    })
}
