//! Files that are read whole and watched, a catalog's or certificates: what was read, and whether it still lies there.
//!
//! A file's stamp is taken before it is read, so a change while it is read is seen at the next look.

mod watch;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use watch::{Reloaded, watch};

/// Everything a load has looked at, also what was not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files {
    seen: Vec<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    /// What counts of a directory.
    extensions: &'static [&'static str],
    stamp: Stamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Stamp {
    Missing,
    /// The change time stands beside the modification time: a file moved over another may bring an old one of these.
    File {
        device: u64,
        inode: u64,
        bytes: u64,
        modified_ns: i128,
        changed_ns: i128,
    },
    /// The files of a directory that count; its own times also change for others.
    Directory(Vec<PathBuf>),
}

impl Files {
    /// The files of a directory with one of these extensions, in name order, or the one file that `path` is.
    pub fn listed(&mut self, path: &Path, extensions: &'static [&'static str]) -> io::Result<Vec<PathBuf>> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        self.see(path, extensions);
        let files = files_of(path, extensions)?;
        if files.is_empty() {
            // One that is being filled, or not mounted: no reason to forget everything.
            let wanted: Vec<String> = extensions.iter().map(|extension| format!("*.{extension}")).collect();
            let message = format!("the directory holds no {}", wanted.join(" or "));
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(files)
    }

    pub fn open(&mut self, path: &Path) -> io::Result<File> {
        self.see(path, &[]);
        File::open(path)
    }

    fn see(&mut self, path: &Path, extensions: &'static [&'static str]) {
        self.seen.push(Seen { path: path.to_owned(), extensions, stamp: stamp(path, extensions) });
    }

    /// The text of a file of at most `max_bytes`.
    pub fn read(&mut self, path: &Path, max_bytes: u64) -> io::Result<String> {
        let mut text = String::new();
        self.open(path)?.take(max_bytes + 1).read_to_string(&mut text)?;
        if text.len() as u64 > max_bytes {
            return Err(io::Error::other(format!("larger than {max_bytes} bytes")));
        }
        Ok(text)
    }

    /// What lies there now, when something is not what was read: for comparing two looks.
    pub fn changed_to(&self) -> Option<Files> {
        let now = Files { seen: self.seen.iter().map(Seen::now).collect() };
        (now != *self).then_some(now)
    }
}

impl Seen {
    fn now(&self) -> Seen {
        Seen { path: self.path.clone(), extensions: self.extensions, stamp: stamp(&self.path, self.extensions) }
    }
}

fn stamp(path: &Path, extensions: &[&str]) -> Stamp {
    let Ok(found) = fs::metadata(path) else { return Stamp::Missing };
    if found.is_dir() {
        return files_of(path, extensions).map_or(Stamp::Missing, Stamp::Directory);
    }
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Stamp::File {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.len(),
        modified_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
        changed_ns: nanoseconds(found.ctime(), found.ctime_nsec()),
    }
}

/// Not recursive, in name order, without hidden files: what a shell makes of `*.toml`.
fn files_of(directory: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let counts = path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known));
        if !hidden && counts && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_a_replacement_and_a_new_file_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.toml"), "1").unwrap();
        fs::write(path(".b.toml"), "hidden").unwrap();
        fs::write(path("c.txt"), "other").unwrap();
        let read = || {
            let mut files = Files::default();
            let names = files.listed(directory.path(), &["toml"]).unwrap();
            names.iter().for_each(|name| drop(files.read(name, 10).unwrap()));
            (names.len(), files)
        };
        let (count, files) = read();
        assert_eq!(count, 1);
        assert!(files.changed_to().is_none());
        fs::write(path("c.txt"), "changed").unwrap();
        assert!(files.changed_to().is_none());

        fs::write(path("a.toml"), "22").unwrap();
        assert!(files.changed_to().is_some());

        let (_, files) = read();
        fs::write(path("new"), "33").unwrap();
        fs::rename(path("new"), path("a.toml")).unwrap();
        assert!(files.changed_to().is_some());

        let (_, files) = read();
        fs::write(path("z.toml"), "").unwrap();
        assert!(files.changed_to().is_some());
        assert_eq!(read().0, 2);
    }

    #[test]
    fn a_missing_file_is_awaited_and_a_large_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let mut files = Files::default();
        assert!(files.read(&path, 4).is_err());
        assert!(files.changed_to().is_none());
        fs::write(&path, "12345").unwrap();
        assert!(files.changed_to().is_some());
        assert!(files.read(&path, 4).is_err());
        assert_eq!(files.read(&path, 5).unwrap(), "12345");
    }
}
