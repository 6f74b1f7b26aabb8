# What `run_kernels.sh` and `compile_kernels.sh` share: a stand-in for a card, and the tests that run on it. To be sourced, in the root of a checkout.

# build_stand_in FOLDER: driver and compiler, as libraries in FOLDER/stand_in.
build_stand_in() {
    local library source name file
    mkdir -p "$1/stand_in"
    for library in driver:cuda:libcuda.so.1 compiler:nvrtc:libnvrtc.so; do
        IFS=: read -r source name file <<<"$library"
        rustc --edition 2024 --crate-type cdylib -O --crate-name "$name" -o "$1/stand_in/$file" "crates/stoker/tests/cuda/stand_in/$source.rs"
    done
}

# kernel_tests: prints the test binary of `vision-nn`, with CUDA; `.ci/run` has built it already. To be called before `CUDA_PATH` is set, on which
# compiled dependencies depend.
kernel_tests() {
    cargo test --workspace --features wgpu --locked --no-run --lib --message-format=json 2>/dev/null |
        python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "vision_nn":
        print(message["executable"])'
}
