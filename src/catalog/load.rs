//! From files to a snapshot: all violations at once, or a catalog that holds together (contract P19-P25).

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use toml::Spanned;
use toml::de::DeTable;

use super::build::Builder;
use super::entries::{self, Place};
use super::{OfferId, Snapshot, link_files};
use crate::files::Files;
use crate::toml_reader::{Section, Source, Violation, Violations};

/// A TOML file of this size holds a million entries; links by the million go into a links file.
const MOST_TOML_BYTES: u64 = 64 << 20;

/// A catalog that holds together.
pub struct Loaded {
    pub snapshot: Snapshot,
    /// Where the offers stand, for what is found wrong with them later.
    pub(super) offer_places: HashMap<OfferId, Place>,
}

/// A links file, and the key that names it.
struct LinksFile {
    path: PathBuf,
    named_in: PathBuf,
    line: usize,
}

/// Loads a TOML file, or the `*.toml` of a directory in name order, read as one.
pub fn load(path: &Path) -> Result<Loaded, Violations> {
    load_noting(path, &mut Files::default())
}

/// The same, and notes every file that is looked at, also when something is wrong: whoever watches them waits for it to
/// be put right.
pub(super) fn load_noting(path: &Path, files: &mut Files) -> Result<Loaded, Violations> {
    let texts = read(path, files)?;
    let sources: Vec<Source<'_>> = texts.iter().map(|(file, text)| Source::new(file, text)).collect();
    let documents = parsed(&sources)?;
    let violations = RefCell::default();
    let mut builder = Builder::new(&violations);
    let mut links_files = Vec::new();
    for (source, document) in sources.iter().zip(&documents) {
        let root = Section::root(source, document, &violations);
        read_entries(&root, &mut builder, files, &mut links_files);
        root.finish();
    }
    builder.resolve();
    for links_file in links_files {
        let (linkable, links) = builder.linking();
        let opened = files.open(&links_file.path);
        let read = opened.and_then(|file| link_files::read(&links_file.path, file, linkable, links, &violations));
        read.unwrap_or_else(|error| links_file.unreadable(&error, &violations));
    }
    let (snapshot, offer_places) = builder.finish();
    violations.into_inner().none()?;
    Ok(Loaded { snapshot, offer_places })
}

fn read(path: &Path, files: &mut Files) -> Result<Vec<(PathBuf, String)>, Violations> {
    let mut violations = Violations::default();
    let mut texts = Vec::new();
    for file in files.listed(path, &["toml"]).map_err(|error| Violation::unreadable(path, &error))? {
        match files.read(&file, MOST_TOML_BYTES) {
            Ok(text) => texts.push((file, text)),
            Err(error) => violations.add(Violation::unreadable(&file, &error)),
        }
    }
    violations.none().map(|()| texts)
}

fn parsed<'t>(sources: &'t [Source<'t>]) -> Result<Vec<Spanned<DeTable<'t>>>, Violations> {
    let mut violations = Violations::default();
    let mut documents = Vec::with_capacity(sources.len());
    for source in sources {
        match source.parse() {
            Ok(document) => documents.push(document),
            Err(violation) => violations.add(violation),
        }
    }
    violations.none().map(|()| documents)
}

fn read_entries(root: &Section<'_>, builder: &mut Builder<'_>, files: &mut Files, links_files: &mut Vec<LinksFile>) {
    links_files.extend(LinksFile::named(root));
    // The example shows `links_file` at the end of the file, where TOML gives it to the last entry: there too it is the
    // catalog's.
    let mut entries = |name| {
        let sections = root.sections(name);
        let stray = sections.iter().filter(|section| section.has("links_file"));
        links_files.extend(stray.filter_map(LinksFile::named));
        sections.into_iter()
    };
    entries("merchants").filter_map(|section| entries::merchant(section, files)).for_each(|e| builder.merchant(e));
    entries("offers").filter_map(entries::offer).for_each(|entry| builder.offer(entry));
    entries("publishers").filter_map(entries::publisher).for_each(|entry| builder.publisher(entry));
    entries("links").map(entries::link).for_each(|entry| builder.link(entry));
    entries("coupons").map(entries::coupon).for_each(|entry| builder.coupon(entry));
}

impl LinksFile {
    fn named(section: &Section<'_>) -> Option<LinksFile> {
        let (name, line) = section.located::<PathBuf>("links_file")?;
        let directory = section.file().parent().unwrap_or(Path::new(""));
        Some(LinksFile { path: directory.join(name), named_in: section.file().to_owned(), line })
    }

    fn unreadable(&self, error: &std::io::Error, violations: &RefCell<Violations>) {
        let message = format!("{}: {error}; a file that can be read is allowed", self.path.display());
        let (file, line) = (self.named_in.clone(), self.line);
        violations.borrow_mut().add(Violation { file, line, key: "links_file".into(), message });
    }
}
