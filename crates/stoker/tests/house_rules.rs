//! The dependency rules of ARCHITECTURE.md, held over `cargo metadata`, and the lengths of files and functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate of the workspace and the crates of the workspace that it depends on, tests aside.
fn dependencies() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let folders: BTreeMap<String, String> =
        packages.iter().map(|package| (text(&package["name"]), text(&package["manifest_path"]))).collect();
    packages
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().expect("dependencies");
            let used = used.iter().filter(|dependency| dependency["kind"].is_null());
            let used = used.map(|dependency| text(&dependency["name"])).filter(|name| folders.contains_key(name));
            let name = text(&package["name"]);
            (name.clone(), (folders[&name].clone(), used.collect()))
        })
        .collect()
}

fn families(all: &BTreeMap<String, (String, BTreeSet<String>)>) -> BTreeSet<String> {
    all.iter().filter(|(_, (folder, _))| folder.contains("/models/")).map(|(name, _)| name.clone()).collect()
}

#[test]
fn nothing_depends_on_the_binary() {
    for (name, (_, used)) in dependencies() {
        assert!(!used.contains("stoker"), "`{name}` depends on `stoker`");
    }
}

#[test]
fn a_family_depends_on_vision_nn_alone() {
    let all = dependencies();
    let families = families(&all);
    assert!(families.contains("convnext"));
    for family in families {
        assert_eq!(all[&family].1, BTreeSet::from(["vision-nn".to_owned()]), "`{family}`");
    }
}

#[test]
fn only_the_binary_names_the_families() {
    let all = dependencies();
    let families = families(&all);
    for (name, (_, used)) in &all {
        assert!(name == "stoker" || used.is_disjoint(&families), "`{name}` names a family");
    }
}

#[test]
fn rooms_without_tensors_stay_without_them() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    for room in ["cpu-kernels", "memory-planner", "data-pipeline", "metrics", "device", "sample-pages"] {
        let output = Command::new(&cargo)
            .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--package", room])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout);
        assert!(!tree.lines().any(|line| line.starts_with("burn")), "`{room}` reaches Burn:\n{tree}");
    }
}

#[test]
fn the_planner_is_arithmetic_alone() {
    assert_eq!(dependencies()["memory-planner"].1, BTreeSet::new());
}

#[test]
fn an_export_knows_the_classifier_trait_and_no_model_or_file() {
    assert_eq!(dependencies()["onnx-export"].1, BTreeSet::from(["vision-nn".to_owned()]));
}

#[test]
fn a_crate_is_named_as_its_folder() {
    for (name, (manifest, _)) in dependencies() {
        assert!(manifest.ends_with(&format!("/{name}/Cargo.toml")), "{manifest}");
    }
}

/// Lines of a file, tests included.
const LONGEST_FILE: usize = 500;

/// Lines of a function, from `fn` to its closing brace.
const LONGEST_FUNCTION: usize = 70;

/// Every Rust file of the repository that is not made by a build.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    ["crates", "models"].iter().for_each(|folder| collect_sources(&root.join(folder), &mut found));
    found
}

fn collect_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
        let is_build = entry.file_name().is_some_and(|name| name == "target");
        if entry.is_dir() && !is_build {
            collect_sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Name and lines of each function, for text that is formatted: a function then ends with a brace below the first letter of its first line.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let indent = &line[..line.len() - words.len()];
        let Some(name) = function_name(words) else { continue };
        // Past the signature; one without a body ends with a semicolon, and a short one on its own line.
        let opened = lines[start..].iter().position(|line| line.ends_with(['{', ';', '}']));
        let opened = start + opened.unwrap_or(0);
        if lines[opened].ends_with('{') {
            let closing = format!("{indent}}}");
            // Text in a string may look like a function that never ends.
            let body = lines[opened..].iter().position(|line| *line == closing);
            found.extend(body.map(|body| (name.to_owned(), opened + body + 1 - start)));
        }
    }
    found
}

/// The name, where a line begins a function.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_modifier = |word: &str| word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(&word);
    let is_quoted_or_path = |word: &str| word.starts_with('"') || word.ends_with(')');
    let starts_here = before.split_whitespace().all(|word| is_modifier(word) || is_quoted_or_path(word));
    let name = after.split(['(', '<']).next()?;
    let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    (starts_here && is_name).then_some(name)
}

#[test]
fn no_file_and_no_function_is_too_long_to_be_read_at_once() {
    let sources = sources();
    assert!(sources.len() > 300, "only {} files were found", sources.len());
    let (mut too_long, mut count) = (Vec::new(), 0);
    for path in sources {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            too_long.push(format!("{}: {lines} lines", path.display()));
        }
        for (name, lines) in functions(&text) {
            count += 1;
            if lines > LONGEST_FUNCTION {
                too_long.push(format!("{}: `{name}` has {lines} lines", path.display()));
            }
        }
    }
    assert!(count > 3_000, "only {count} functions were found");
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
}

#[test]
fn functions_are_found_with_their_lengths() {
    let text = "pub(crate) const fn one() -> u8 {\n    1\n}\nimpl X {\n    fn two(\n        a: u8,\n    ) {\n        three();\n    }\n    fn none(&self);\n}\n\
                fn short() {}\nlet fn_ = |f: fn (u8)| f;\nlet x = \"a fn is\";\n";
    let found = functions(text);
    let found: Vec<(&str, usize)> = found.iter().map(|(name, lines)| (name.as_str(), *lines)).collect();
    assert_eq!(found, [("one", 3), ("two", 5)]);
}
