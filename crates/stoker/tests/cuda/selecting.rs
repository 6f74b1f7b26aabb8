//! Which card is taken, and when none can be.

use crate::machine::{GIB, Machine};

#[test]
fn a_card_is_listed_with_what_the_driver_says_of_it() {
    let machine = Machine::with_card(12 * GIB);
    let (stdout, _) = machine.succeed("gpu --detailed");
    assert!(stdout.contains("cuda:0    NVIDIA GeForce RTX 3060"), "{stdout}");
    assert!(stdout.contains("in the catalogue as `rtx3060-12gb`"), "{stdout}");
    assert!(stdout.contains("kernels of cards are kept in "), "{stdout}");
    assert!(stdout.contains("stoker takes cuda:0 (driver for CUDA 13.0)"), "{stdout}");
}

#[test]
fn without_headers_auto_takes_the_cpu_and_a_card_that_is_asked_for_is_refused() {
    let machine = Machine::with_card(12 * GIB).set("CUDA_PATH", "/nowhere");
    let (stdout, _) = machine.succeed("gpu");
    assert!(stdout.contains("stoker takes cpu"), "{stdout}");
    assert!(stdout.contains("there is no `include/cuda_fp16.h` in `/nowhere`: using the CPU; install"), "{stdout}");
    let output = machine.run("train --config tiny.yaml");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("device `cuda:0` (NVIDIA GeForce RTX 3060) cannot be used"), "{stderr}");
    assert!(stderr.contains("hint: install the CUDA toolkit, or `pip install nvidia-cuda-nvrtc"), "{stderr}");
}

#[test]
fn a_card_that_the_compiler_has_left_behind_is_refused_before_anything_is_written() {
    let machine = Machine::with_card(8 * GIB).set("STAND_IN_CARD_CAPABILITY", "6.1");
    let output = machine.run("train --config tiny.yaml");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("NVRTC 13.0 compiles nothing for compute capability 6.1"), "{stderr}");
    assert!(stderr.contains("nvidia-cuda-nvrtc-cu12"), "{stderr}");
    assert!(!machine.path("runs").exists());
}
