//! `cargo test --lib probes`: two seconds a probe; a minute each with AFFLUX_FAULTS=long. A failure prints the seed and the
//! bytes; those go into the corpus, so that they are tried for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::mutation::{Random, mutated};
use super::{ALL, Probe};

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}: a probe without a corpus finds nothing", directory.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn run((name, probe): Probe, bytes: &[u8], seed: u64) {
    let outcome = catch_unwind(AssertUnwindSafe(|| probe(bytes)));
    assert!(outcome.is_ok(), "{name}, seed {seed}: {:?}", bytes.escape_ascii().to_string());
}

#[test]
fn the_corpus_of_every_probe_holds() {
    for probe in ALL {
        corpus(probe.0).iter().for_each(|bytes| run(probe, bytes, 0));
    }
}

#[test]
fn mutations_of_the_corpus_hold_for_a_bounded_time() {
    let is_long = std::env::var("AFFLUX_FAULTS").is_ok_and(|form| form == "long");
    let time = Duration::from_secs(if is_long { 60 } else { 2 });
    let seed = match std::env::var("AFFLUX_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    for probe in ALL {
        let (corpus, mut random, begun, mut tried) = (corpus(probe.0), Random::new(seed), Instant::now(), 0u64);
        while begun.elapsed() < time {
            for _ in 0..64 {
                run(probe, &mutated(&corpus, &mut random), seed);
                tried += 1;
            }
        }
        println!("{}: {tried} mutations of {}", probe.0, corpus.len());
    }
}

#[test]
fn every_probe_has_a_fuzz_target_of_its_name() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let targets = std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count();
    assert_eq!(targets, ALL.len());
    for (name, _) in ALL {
        let target = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("afflux::probes::{name}(bytes)")), "{name}: {target}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// A mutation that breaks nothing proves nothing: a probe is told a segment that is wrong, and sees it.
#[test]
fn the_sample_segment_of_the_corpus_is_what_the_format_writes() {
    let sample = crate::spool::probes::sample(&[b"{\"event\":\"click\"}", b"x"]);
    assert!(corpus("segment").contains(&sample), "fuzz/corpus/segment has the format of before");
}
