//! The dependency rules of ARCHITECTURE.md, held over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
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
