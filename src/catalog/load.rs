//! From files to a snapshot: all violations at once, or a catalog that holds together (contract P19-P25).

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::build::Builder;
use super::{Snapshot, entries, link_files};
use crate::toml_reader::{Section, Source, Violation, Violations};

/// A catalog and the files it was made of, for whoever watches them.
pub struct Loaded {
    pub snapshot: Snapshot,
    pub files: Vec<PathBuf>,
}

/// Loads a TOML file, or the `*.toml` of a directory in name order, read as one.
pub fn load(path: &Path) -> Result<Loaded, Violations> {
    let mut files = toml_files(path).map_err(|error| unreadable(path, &error))?;
    let mut texts = Vec::with_capacity(files.len());
    for file in &files {
        texts.push(std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?);
    }
    let sources: Vec<Source<'_>> = files.iter().zip(&texts).map(|(file, text)| Source::new(file, text)).collect();
    let documents = parsed(&sources)?;
    let violations = RefCell::default();
    let mut builder = Builder::new(&violations);
    let mut link_files = Vec::new();
    for (source, document) in sources.iter().zip(&documents) {
        let root = Section::root(source, document, &violations);
        root.sections("merchants").into_iter().filter_map(entries::merchant).for_each(|entry| builder.merchant(entry));
        root.sections("offers").into_iter().filter_map(entries::offer).for_each(|entry| builder.offer(entry));
        root.sections("publishers").into_iter().filter_map(entries::publisher).for_each(|e| builder.publisher(e));
        root.sections("links").into_iter().filter_map(entries::link).for_each(|entry| builder.link(entry));
        root.sections("coupons").into_iter().filter_map(entries::coupon).for_each(|entry| builder.coupon(entry));
        if let Some((name, line)) = root.located::<PathBuf>("links_file") {
            let file = source_directory(root.file()).join(name);
            link_files.push((file, root.file().to_owned(), line));
        }
        root.finish();
    }
    builder.resolve();
    for (file, named_in, line) in &link_files {
        link_files::read(file, &mut builder).unwrap_or_else(|error| {
            let message = format!("{}: {error}; a file that can be read is allowed", file.display());
            let violation = Violation { file: named_in.clone(), line: *line, key: "links_file".into(), message };
            violations.borrow_mut().add(violation);
        });
    }
    let snapshot = builder.finish();
    let violations = violations.into_inner();
    if !violations.is_empty() {
        return Err(violations);
    }
    files.extend(link_files.into_iter().map(|(file, ..)| file));
    Ok(Loaded { snapshot, files })
}

fn parsed<'t>(sources: &'t [Source<'t>]) -> Result<Vec<Spanned<DeTable<'t>>>, Violations> {
    let mut documents = Vec::with_capacity(sources.len());
    let mut violations = Violations::default();
    for source in sources {
        match source.parse() {
            Ok(document) => documents.push(document),
            Err(violation) => violations.add(violation),
        }
    }
    if violations.is_empty() { Ok(documents) } else { Err(violations) }
}

fn toml_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension() == Some(OsStr::new("toml")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(std::io::Error::new(ErrorKind::NotFound, "the directory holds no *.toml"));
    }
    Ok(files)
}

fn source_directory(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Violations {
    let message = format!("cannot be read: {error}");
    let violation = Violation { file: path.to_owned(), line: 1, key: String::new(), message };
    Violations { listed: vec![violation], unlisted: 0 }
}
