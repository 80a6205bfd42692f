//! The click keys of a role: read from `click.keys_file`, or made once by `serve` in the data directory (contract P17).

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Failure;
use crate::click::Keys;

/// Reads the keys of a configured file.
pub fn read(path: &Path) -> Result<Keys, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    Keys::parse(&text).map_err(|error| Failure::usage(format!("{}:{error}", path.display())))
}

/// Reads the keys at `path`, and makes them before if there are none yet. Two starts at once agree on one file: it gets
/// its name only when it is whole.
pub fn read_or_make(path: &Path) -> Result<Keys, Failure> {
    if !path.exists() {
        make(path).map_err(|error| unreadable(path, error))?;
    }
    read(path)
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

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::usage(format!("click.keys_file: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_keys_are_made_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("click.keys");
        let first = read_or_make(&path).unwrap();
        let second = read_or_make(&path).unwrap();
        assert_eq!(first.derive("x"), second.derive("x"));
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("click.keys");
        std::fs::write(&path, "0:zz\n").unwrap();
        let message = read(&path).unwrap_err().message;
        assert!(message.contains("click.keys:1:"), "{message}");
    }
}
