#!/usr/bin/env bash
# Runs every kernel of ours as CUDA has it, on a machine without a card, and holds its numbers to the definitions.
#
#   scripts/run_kernels.sh [FOLDER] [CAPABILITY..]     FOLDER: where compiled kernels are kept; default ~/.cache/stoker-kernels
#                                                      CAPABILITY: 7.5, 8.6, ..; default 8.6
#
# The tests that a card runs (`on_cuda`), on a stand-in for it (crates/stoker/tests/cuda/stand_in): CubeCL's CUDA runtime and the C++ that it writes are
# the real ones; a C++ compiler takes the place of NVRTC, and the processor that of the card. The first time takes some minutes. Needs Rust, Python and a C++
# compiler. What it cannot show: speed, NVIDIA's compiler (scripts/compile_kernels.sh), what only Hopper and newer cards have, and races within a warp.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/stand_in.sh

folder=${1:-$HOME/.cache/stoker-kernels}
shift || true
capabilities=("$@")
[ ${#capabilities[@]} -gt 0 ] || capabilities=(8.6)
sources=$PWD/crates/stoker/tests/cuda/stand_in

mkdir -p "$folder/toolkit"
"${CXX:-c++}" -std=c++17 -O2 -U_FORTIFY_SOURCE -shared -fPIC "$sources/computing/lanes.cpp" -o "$folder/liblanes.so"
build_stand_in "$folder"
ln -sfn "$sources/computing" "$folder/toolkit/include"

binary=$(kernel_tests)

for capability in "${capabilities[@]}"; do
    echo "kernels for compute capability $capability"
    LD_LIBRARY_PATH="$folder/stand_in" CUDA_PATH="$folder/toolkit" XDG_CACHE_HOME="$folder/cache-$capability" \
        CUBECL_AUTOTUNE_LEVEL="${CUBECL_AUTOTUNE_LEVEL:-minimal}" RUST_TEST_THREADS=1 \
        STAND_IN_CARD_CAPABILITY="$capability" STAND_IN_CARD_MEMORY=17179869184 \
        STAND_IN_COMPUTES="$folder" STAND_IN_HEADERS="$sources/computing" \
        "$binary" on_cuda --ignored
done

echo "a training run beside the CPU's"
cargo test --workspace --features wgpu --locked --test cuda -- a_card_that_computes --ignored
