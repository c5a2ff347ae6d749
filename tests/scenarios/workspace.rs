//! The workspace is what the design says: who may depend on whom, where unsafe code may stand, which behaviours of
//! AWS's have a test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod behaviours;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("packet", &[]),
    ("model", &[]),
    ("config", &["model"]),
    ("dataplane", &["model", "packet"]),
    ("host", &["dataplane", "packet"]),
    ("services", &["model", "packet"]),
    ("control", &["model", "config", "dataplane", "host", "services"]),
    ("cli", &["control", "api"]),
    ("testkit", &["dataplane", "model", "packet"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).no_deps().exec().unwrap()
}

#[test]
fn crates_use_only_what_they_may() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let metadata = metadata();
    assert_eq!(metadata.packages.len(), ALLOWED.len(), "every crate is listed");
    for package in &metadata.packages {
        let name = package.name.strip_prefix("minivpc-").unwrap();
        let uses = package.dependencies.iter().filter_map(|dependency| {
            let used = dependency.name.strip_prefix("minivpc-")?;
            // Tests may use the test kit.
            (dependency.kind == DependencyKind::Normal || used != "testkit").then_some(used)
        });
        let wrong: Vec<_> = uses.filter(|used| !allowed[name].contains(used)).collect();
        assert!(wrong.is_empty(), "{name} must not use {wrong:?}");
    }
}

#[test]
fn unsafe_code_stands_in_host_alone() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
    for package in metadata().packages {
        let allows = walk(package.manifest_path.parent().unwrap().as_std_path())
            .into_iter()
            .any(|file| std::fs::read_to_string(file).unwrap().contains(concat!("allow(unsafe", "_code)")));
        assert_eq!(allows, package.name.as_str() == "minivpc-host", "{}", package.name);
    }
}

#[test]
fn every_lab_has_a_file_that_is_valid_and_a_page_that_says_what_to_type() {
    for lab in std::fs::read_dir(root().join("configs")).unwrap().flatten() {
        let file = lab.path().join("lab.yaml");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_minivpc")).arg("validate").arg(&file).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        let page = std::fs::read_to_string(lab.path().join("README.md")).unwrap();
        assert!(page.contains("minivpc up"), "{}", lab.path().display());
    }
}

/// All Rust files below a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(walk(&entry.path())),
            false if entry.path().extension().is_some_and(|extension| extension == "rs") => files.push(entry.path()),
            false => {}
        }
    }
    files
}
