//! The reference of all keys, and results as results.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::stage::Stage;

#[test]
fn docs_configuration_md_is_what_config_reference_prints() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let kept = fs::read_to_string(page).expect("the page is in the repository");
    let printed = Stage::new().output(&["config-reference"]).stdout;
    let printed = String::from_utf8(printed).expect("the page is UTF-8");
    assert!(kept.replace("\r\n", "\n") == printed, "run `cargo run -- config-reference > docs/configuration.md`");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stoker"))
        .arg("config-reference")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failed_run() {
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = Command::new(env!("CARGO_BIN_EXE_stoker"))
        .arg("config-reference")
        .stdout(full)
        .output()
        .expect("the binary was built for this test");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr));
}
