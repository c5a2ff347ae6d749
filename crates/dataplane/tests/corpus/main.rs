//! The fuzzer's corpus, without the fuzzer: every file is replayed, and so are many damaged copies of them.
//!
//! A failure prints the seed of its damage: `MINIVPC_SEED=N cargo test -p minivpc-dataplane --test corpus` repeats it.
//! `MINIVPC_MUTATIONS=N` damages more copies. The files of `seeds.rs` are written by `MINIVPC_WRITE_CORPUS=1`; others
//! are what a fuzzer has found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod seeds;

use std::path::PathBuf;

use minivpc_testkit::fuzz::{self, Record};
use minivpc_testkit::random::Random;

/// Damaged copies.
const MUTATIONS: u64 = 10_000;

/// Values at which lengths, offsets and counts turn over.
const EDGES: [u8; 12] = [0, 1, 2, 4, 5, 8, 0x14, 0x40, 0x45, 0x7f, 0x80, 0xff];

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "frames"].iter().collect()
}

/// All files by name, so that the same number always means the same damage.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs an input and says what repeats it if that fails.
fn run(what: &str, input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| fuzz::run(input)) {
        println!("{what}");
        std::panic::resume_unwind(panic);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// One of the conversations, with something of another, and damaged in a few places.
fn damaged(random: &mut Random, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let any = |random: &mut Random| Record::all(&corpus[random.below(corpus.len())].1);
    let mut records = any(random);
    if random.one_in(3) {
        let at = random.below(records.len() + 1);
        records.splice(at..at, any(random));
    }
    for _ in 0..1 + random.below(4) {
        if records.is_empty() {
            return Vec::new();
        }
        let at = random.below(records.len());
        match random.below(8) {
            0 => records.push(records[at].clone()),
            1 => drop(records.remove(at)),
            _ => damage(random, &mut records[at]),
        }
    }
    records.iter().flat_map(Record::write).collect()
}

fn damage(random: &mut Random, record: &mut Record) {
    let byte = if random.one_in(2) { random.of(&EDGES) } else { random.number() as u8 };
    // Headers matter more than payload.
    let reach = if random.one_in(4) { record.frame.len() } else { record.frame.len().min(80) };
    match random.below(12) {
        0 => record.by = random.number() as u8,
        1 => record.by ^= 1 << random.below(8),
        2 => record.pause = byte,
        3 => record.vnet[random.below(10)] = byte,
        4 => record.frame.truncate(random.below(reach + 1)),
        5 => record.frame.extend(vec![byte; random.below(60)]),
        6 => record.frame.insert(random.below(reach + 1), byte),
        _ if reach == 0 => {}
        7 => drop(record.frame.remove(random.below(reach))),
        8 => record.frame[random.below(reach)] ^= 1 << random.below(8),
        _ => record.frame[random.below(reach)] = byte,
    }
}

#[test]
fn every_seed_has_its_file() {
    let seeds = seeds::all();
    for (name, records) in &seeds {
        let (path, bytes) = (directory().join(name), records.iter().flat_map(Record::write).collect::<Vec<_>>());
        if number("MINIVPC_WRITE_CORPUS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|file| file == bytes), "MINIVPC_WRITE_CORPUS=1 writes {name}");
    }
}

#[test]
fn the_corpus_and_its_damaged_copies_break_nothing() {
    let corpus = corpus();
    for (name, input) in &corpus {
        run(&format!("fuzz/corpus/frames/{name}"), input);
    }
    let seeds = match number("MINIVPC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MINIVPC_MUTATIONS").unwrap_or(MUTATIONS),
    };
    for seed in seeds {
        run(&format!("MINIVPC_SEED={seed} repeats it"), &damaged(&mut Random(seed), &corpus));
    }
}
