//! Which directories are spools. A spool's directory bears the topic and ID that its control file says; a copy beside it
//! under another name is none, and every such one is named.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::control::{self, FILE_NAME};
use super::page::{Broken, Position};
use super::reader::Reader;
use super::segment::SUFFIX;
use super::shortage::is_shortage;
use super::{SpoolId, Topic};

/// A spool of the directory and how far it may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub directory: PathBuf,
    pub position: Position,
}

impl Known {
    pub fn id(&self) -> SpoolId {
        self.position.spool
    }

    pub fn topic(&self) -> Topic {
        self.position.topic
    }

    pub fn read_from(&self, seq: u64) -> io::Result<Reader> {
        Reader::open(&self.directory, self.id(), seq)
    }
}

/// What a directory that looks like a spool is.
#[derive(Debug)]
pub enum Entry {
    Spool(Known),
    /// It bears a spool's name, but its control file cannot be used: recovery makes a new one from its segments.
    Broken {
        directory: PathBuf,
        topic: Topic,
        spool: SpoolId,
        why: String,
    },
    Stranger(Stranger),
    /// It bears a spool's name, and its control file cannot be read now: nothing is known of it.
    Unread {
        directory: PathBuf,
        error: io::Error,
    },
}

/// A directory that holds a control file or segments and is no spool of this place. It is read by nobody and left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    pub directory: PathBuf,
    pub why: String,
}

impl fmt::Display for Stranger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: not a spool of this directory: {}", self.directory.display(), self.why)
    }
}

/// The name of a spool's directory.
pub fn name(topic: Topic, spool: SpoolId) -> String {
    format!("{}-{spool}", topic.name())
}

pub fn parse_name(directory: &Path) -> Option<(Topic, SpoolId)> {
    let text = directory.file_name()?.to_str()?;
    let (topic, id) = text.rsplit_once('-')?;
    let topic = [Topic::Clicks, Topic::Conversions].into_iter().find(|known| known.name() == topic)?;
    let spool = SpoolId(u64::from_str_radix(id, 16).ok()?);
    (name(topic, spool) == text).then_some((topic, spool))
}

/// The directories in `directory` that may be spools, sorted. A control file of its own makes it none.
pub fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_directory = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
            kind => kind.is_ok_and(|kind| kind.is_dir()),
        };
        if !hidden && is_directory {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// What `directory` is; `None` for anything that has nothing to do with spools.
pub fn examine(directory: &Path) -> Option<Entry> {
    let directory = directory.to_owned();
    let stranger = |why: String| Some(Entry::Stranger(Stranger { directory: directory.clone(), why }));
    let Some((topic, spool)) = parse_name(&directory) else {
        return if looks_like_a_spool(&directory) { stranger("its name is none of a spool".into()) } else { None };
    };
    match control::read(&directory) {
        Ok(position) if (position.topic, position.spool) == (topic, spool) => {
            Some(Entry::Spool(Known { directory, position }))
        }
        Ok(position) => stranger(format!("its control file says {}", name(position.topic, position.spool))),
        Err(error) => match broken(&error) {
            Some(version @ Broken::Version(_)) => stranger(version.to_string()),
            _ if is_gone(&directory) => None,
            _ if error.kind() == io::ErrorKind::NotFound => {
                Some(Entry::Broken { directory, topic, spool, why: "it has no control file".into() })
            }
            Some(_) => Some(Entry::Broken { directory, topic, spool, why: error.to_string() }),
            // An error of the disk, say, that may be over soon: what the file counts is not given up for it.
            None => Some(Entry::Unread { directory, error }),
        },
    }
}

/// A directory that was named by a person: itself, whatever its name, or what is in it.
pub fn named(directory: &Path) -> io::Result<Vec<Entry>> {
    match control::read(directory) {
        Ok(position) => Ok(vec![Entry::Spool(Known { directory: directory.to_owned(), position })]),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) if parse_name(directory).is_some() => Ok(examine(directory).into_iter().collect()),
        Err(_) => configured(directory),
    }
}

/// The spool of this ID in the directory of all spools.
pub fn find(directory: &Path, spool: SpoolId) -> io::Result<Option<Known>> {
    for topic in [Topic::Clicks, Topic::Conversions] {
        match examine(&directory.join(name(topic, spool))) {
            Some(Entry::Spool(known)) => return Ok(Some(known)),
            Some(Entry::Broken { directory, why, .. }) => {
                return Err(io::Error::other(format!("{}: {why}", directory.display())));
            }
            Some(Entry::Stranger(stranger)) => return Err(io::Error::other(stranger.to_string())),
            Some(Entry::Unread { error, .. }) => return Err(error),
            None => {}
        }
    }
    Ok(None)
}

/// What is in the directory of all spools.
pub fn configured(directory: &Path) -> io::Result<Vec<Entry>> {
    Ok(directories(directory)?.iter().filter_map(|path| examine(path)).collect())
}

/// All spools of a directory that can be read by their control files.
#[cfg(test)]
pub fn list(directory: &Path) -> io::Result<Vec<Known>> {
    let spool = |entry| match entry {
        Entry::Spool(known) => Some(known),
        _ => None,
    };
    Ok(configured(directory)?.into_iter().filter_map(spool).collect())
}

/// Where that is not known it is there.
pub fn is_gone(directory: &Path) -> bool {
    matches!(directory.try_exists(), Ok(false))
}

/// What is told of a spool that is there and cannot be read or recovered; it is tried again.
pub fn unread(error: &io::Error) -> String {
    format!("it cannot be read or recovered now: {error}")
}

/// Why a control file was refused.
pub fn broken(error: &io::Error) -> Option<Broken> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Broken>()).copied()
}

fn looks_like_a_spool(directory: &Path) -> bool {
    if directory.join(FILE_NAME).exists() {
        return true;
    }
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let is_segment = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == SUFFIX);
    entries.flatten().any(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_topic_and_sixteen_digits() {
        let parse = |name: &str| parse_name(Path::new(name));
        assert_eq!(parse("/a/clicks-00000000000000ff"), Some((Topic::Clicks, SpoolId(255))));
        assert_eq!(parse("conversions-ffffffffffffffff"), Some((Topic::Conversions, SpoolId(u64::MAX))));
        for wrong in [
            "clicks-ff",
            "clicks-00000000000000FF",
            "clicks-00000000000000ff.bak",
            "pixels-00000000000000ff",
            "clicks-+0000000000000ff",
            "clicks",
            "",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
