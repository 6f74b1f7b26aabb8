//! What is timed on CUDA's runtime: times mean nothing there, but what fails has none.

use crate::machine::{GIB, Machine};

/// The driver tells of 12 GiB, of which 8 can be had: enough for what rates are measured with, and not for two maps, their sum and its gradients of
/// 2.3 GiB each.
#[test]
fn an_operation_that_the_card_cannot_hold_is_named_and_has_no_time() {
    let machine = Machine::with_card(12 * GIB).set("STAND_IN_CARD_MEMORY_THERE", &(8 * GIB).to_string());
    let output = machine.run("bench kernels sum --batch 1536 --rounds 1 --device cuda:0");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    assert!(stderr.contains("cannot time bias, layer scale and sum of convnext_base at 1536x56x56x128"), "{stderr}");
    assert!(stderr.contains("hint: pass a smaller `--batch`"), "{stderr}");
    assert!(!stdout.contains("| bias, layer scale and sum |"), "{stdout}");
}
