//! Runs that are stopped: by a disk that fills, and by the user. The whole of what they say.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use insta::assert_snapshot;

use crate::scrub::scrub;
use crate::stage::Stage;

/// Waited for a run to come to its first epoch; more than a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

fn shell(stage: &Stage, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_stoker")]).args(arguments);
    command.current_dir(stage.path("")).env("NO_COLOR", "1").env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Tests that are run in the background are started to ignore Ctrl-C, and hand that on; this process is to mind it.
#[cfg(unix)]
fn mind_ctrl_c(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    let mind = || {
        // SAFETY: the default action runs no code of this process.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: a system call alone is made between fork and exec.
    unsafe { command.pre_exec(mind) };
}

/// All that came of a process, without its measurements and without the lines of epochs, whose number is chance.
fn told(output: std::process::Output) -> String {
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    let code = output.status.code().expect("it ended by itself");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let told = scrub(&format!("--- exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}"));
    told.lines().filter(|line| !line.starts_with("epoch ")).collect::<Vec<_>>().join("\n")
}

/// No file may become as large as a checkpoint is.
#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_a_file_is_told_with_the_way_to_go_on() {
    let stage = Stage::with_validation();
    let script = "ulimit -f 2000; exec \"$@\"";
    let output = shell(&stage, script, &["train", "--config", "x.yaml"]).output().expect("`sh` is there");
    assert_snapshot!(told(output));
}

#[cfg(unix)]
#[test]
fn ctrl_c_is_told_with_the_way_to_go_on() {
    let stage = Stage::with_validation();
    let arguments = ["train", "--config", "x.yaml", "--set", "train.epochs=100000"];
    let mut command = shell(&stage, "exec \"$@\"", &arguments);
    mind_ctrl_c(&mut command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("`sh` is there");
    let start = Instant::now();
    let has_begun = || {
        let runs = std::fs::read_dir(stage.path("runs")).ok().into_iter().flatten().flatten();
        runs.map(|date| date.path().join("pets/checkpoints/last.safetensors")).any(|last| last.exists())
    };
    while !has_begun() {
        assert!(start.elapsed() < PATIENCE, "no epoch was saved");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().expect("`kill` is there");
    assert!(sent.success());
    assert_snapshot!(told(child.wait_with_output().expect("it is our child")));
}
