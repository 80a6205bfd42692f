//! A process that has no descriptor left loses nothing by it: it waits.

use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const RECORDS: u64 = 600;
const CHILD: &str = "AFFLUX_TEST_SHORTAGE";
const NAME: &str = "spool::tests::shortage::v11_without_descriptors_nothing_is_lost_and_no_spool_is_made_anew";

/// Files that may be opened beside those that are.
fn leave(descriptors: u64) {
    let lowest_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    limit(lowest_free + descriptors);
}

fn limit(descriptors: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum }).unwrap();
}

fn read_all(directory: &Path, id: SpoolId) -> std::io::Result<u64> {
    let mut reader = Reader::open(directory, id, 0)?;
    let mut read = 0;
    while let Some(item) = reader.next(RECORDS)? {
        let Item::Record { seq, .. } = item else { panic!("{item:?}") };
        assert_eq!(seq, read);
        read += 1;
    }
    Ok(read)
}

/// A copy of a spool whose process died, as it is before anybody sealed it.
fn dead(kept: &Path) -> (tempfile::TempDir, Known) {
    let copy = copy_of(&kept.join("spool"));
    let known = shelf::list(&copy.path().join("spool")).unwrap().remove(0);
    (copy, known)
}

/// A restart in a moment without descriptors: the doors open, and what was left unsealed is sealed later.
fn start(kept: &Path) {
    let (copy, known) = dead(kept);
    let house = house(Durability::Process);
    let options = Options { directory: copy.path().join("spool"), ..house.options.clone() };
    leave(0);
    let opened = Spools::open(options, house.clock.clone());
    limit(1_024);
    let spools = opened.unwrap();
    assert_eq!((spools.recover().unwrap(), spools.list().unwrap().len()), (1, 1));
    assert_eq!(read_all(&known.directory, known.id()).unwrap(), RECORDS);
    assert_eq!(spools.close(), []);
}

fn child(kept: &Path) {
    start(kept);
    let (mut short, mut whole) = (0, 0);
    let mut count = |was_short: bool| if was_short { short += 1 } else { whole += 1 };
    for descriptors in 0..8 {
        let (_copy, known) = dead(kept);
        leave(descriptors);
        let read = read_all(&known.directory, known.id());
        let found = shelf::find(known.directory.parent().unwrap(), known.id());
        let recovered = recovery::recover(&known.directory);
        limit(1_024);
        count(read.is_err());
        match read {
            Ok(read) => assert_eq!(read, RECORDS),
            Err(error) => assert!(is_shortage(&error), "{error}"),
        }
        match found {
            Ok(found) => assert_eq!(found.unwrap().position, known.position),
            Err(error) => assert!(is_shortage(&error), "{error}"),
        }
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                assert!(is_shortage(&error), "{error}");
                recovery::recover(&known.directory).unwrap()
            }
        };
        let recovered = recovered.unwrap();
        assert_eq!((recovered.records, recovered.tail, recovered.rebuilt), (RECORDS, 0, None));
        assert_eq!(read_all(&known.directory, known.id()).unwrap(), RECORDS);
    }
    assert!(short >= 2 && whole >= 2, "{short} and {whole}");
}

#[test]
fn v11_without_descriptors_nothing_is_lost_and_no_spool_is_made_anew() {
    if let Some(kept) = std::env::var_os(CHILD) {
        return child(Path::new(&kept));
    }
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, RECORDS);
    wait_until("synced", || house.only().position.synced == RECORDS);
    let kept = copy_of(&house.options.directory);
    assert!(listing::list(&house.only().directory, writer.id()).unwrap().segments.len() > 1);
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", NAME, "--nocapture"]).env(CHILD, kept.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
