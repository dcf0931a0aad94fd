//! House rules the compiler cannot check. Runs with `cargo test`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may import whom, ground floor first. A crate that is not listed fails the test.
const LAYERS: &[(&str, &[&str])] = &[
    ("fleet-client", &[]),
    ("gateway-api", &[]),
    ("service", &[]),
    ("sfu-core", &[]),
    ("voice-client", &["sfu-core"]),
    ("mock-fleet", &["service"]),
    ("mock-game-server", &["fleet-client", "service"]),
    ("fleet-bridge", &["fleet-client", "gateway-api", "service"]),
    ("gateway", &["gateway-api", "service"]),
    (
        "sfu",
        &["fleet-client", "gateway-api", "service", "sfu-core"],
    ),
    ("voice-load", &["gateway-api", "service"]),
    (
        "bifrost",
        &[
            "fleet-bridge",
            "gateway",
            "gateway-api",
            "mock-fleet",
            "mock-game-server",
            "service",
            "sfu",
            "voice-client",
            "voice-load",
        ],
    ),
    (
        "integration-tests",
        &[
            "fleet-bridge",
            "fleet-client",
            "gateway",
            "gateway-api",
            "mock-fleet",
            "mock-game-server",
            "sfu",
            "voice-client",
        ],
    ),
    ("xtask", &[]),
];

/// Code lines of a file before its tests.
const CODE_LINES_MAX: usize = 500;

/// Lines of a `main.rs`: it parses arguments and calls the library.
const MAIN_LINES_MAX: usize = 40;

#[test]
fn crates_import_downwards_only() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let allowed: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    for package in &metadata.packages {
        let floor = allowed
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("add {} to LAYERS", package.name));
        for dependency in package.dependencies.iter().filter(|it| it.path.is_some()) {
            let is_test_only = dependency.kind == DependencyKind::Development;
            assert!(
                is_test_only || floor.contains(&dependency.name.as_str()),
                "{} must not import {}",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn files_stay_readable() {
    for (path, text) in rust_files() {
        let code = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        assert!(
            code <= CODE_LINES_MAX,
            "{}: {code} lines before its tests",
            path.display()
        );
        // xtask has no library: its main is the list of its tasks.
        let is_main = path.ends_with("src/main.rs") && !path.starts_with("xtask");
        assert!(
            !is_main || code <= MAIN_LINES_MAX,
            "{}: {code} lines",
            path.display()
        );
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in rust_files() {
        assert!(
            text.starts_with("//! "),
            "{} does not open with //!",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_half_done() {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["#[ig", "nore"].concat(),
    ];
    for (path, text) in rust_files() {
        for mark in &marks {
            assert!(!text.contains(mark), "{} has {mark}", path.display());
        }
    }
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace");
    let mut files = Vec::new();
    collect(root, &mut files);
    assert!(
        files.len() > 20,
        "the walk found only {} files",
        files.len()
    );
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a readable file");
        (
            path.strip_prefix(root)
                .expect("a file of the workspace")
                .to_owned(),
            text,
        )
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let name = path
            .file_name()
            .expect("an entry has a name")
            .to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}
