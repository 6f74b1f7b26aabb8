#!/usr/bin/env bash
# Compiles every kernel of ours for CUDA on a machine without a card, with NVIDIA's own compiler, and names those that it refuses.
#
#   scripts/compile_kernels.sh [FOLDER] [CAPABILITY..]     FOLDER: where the compiler is kept; default ~/.cache/stoker-nvrtc
#                                                          CAPABILITY: 7.5, 8.6, ..; default 7.5 8.0 8.6 9.0
#
# The tests that a card runs (`on_cuda`) are run on a driver that computes nothing (crates/stoker/tests/cuda/stand_in): their numbers are wrong, which
# is no matter here; their kernels are compiled by NVRTC from PyPI for each capability. Needs Rust, Python with pip, and 100 MB from PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/stand_in.sh

folder=${1:-$HOME/.cache/stoker-nvrtc}
shift || true
capabilities=("$@")
[ ${#capabilities[@]} -gt 0 ] || capabilities=(7.5 8.0 8.6 9.0)
packages=(nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85)

toolkit="$folder/packages/nvidia/cu13"
[ -e "$toolkit/lib/libnvrtc.so.13" ] || python3 -m pip install --quiet --no-deps --target "$folder/packages" "${packages[@]}"
build_stand_in "$folder"

binary=$(kernel_tests)

status=0
for capability in "${capabilities[@]}"; do
    work=$(mktemp -d)
    LD_LIBRARY_PATH="$folder/stand_in:$toolkit/lib" CUDA_PATH="$toolkit" XDG_CACHE_HOME="$work" CUBECL_AUTOTUNE_LEVEL=minimal \
        STAND_IN_CARD_CAPABILITY="$capability" STAND_IN_CARD_STATISTICS="$work/statistics" STAND_IN_CARD_MEMORY=17179869184 \
        STOKER_COMPILES_ONLY=1 STAND_IN_COMPILER="$toolkit/lib/libnvrtc.so.13" STAND_IN_COMPILER_FAILURES="$work/refused" \
        "$binary" on_cuda --ignored >"$work/log" 2>&1 || true
    kernels=$(od -A n -t u8 -j 16 -N 8 "$work/statistics" | tr -d ' ')
    refused=$(find "$work/refused" -name '*.log' 2>/dev/null | wc -l)
    echo "compute capability $capability: $kernels kernels compiled, $refused refused"
    if [ "$refused" -gt 0 ] || [ "$kernels" -lt 20 ]; then
        status=1
        echo "  see $work/refused and $work/log" >&2
    else
        rm -rf "$work"
    fi
done
exit $status
