#!/usr/bin/env bash
# Runs on a card what can be checked there today, and leaves text and JSON in the folder it is given.
#
#   scripts/gpu_report.sh OUT [STOKER] [KERNEL_TESTS]      STOKER: the binary; default target/release/stoker
#                                                          KERNEL_TESTS: the unit tests of `vision-nn` as a binary; by default Cargo builds them
#
# A step that fails is recorded and does not stop the next. To be run from the root of a checkout; data/sign_digits is used when it is there.
set -uo pipefail

out=${1:?usage: scripts/gpu_report.sh OUT [STOKER]}
stoker=${2:-target/release/stoker}
read -ra kernel_tests <<<"${3:-cargo test -p vision-nn --features cuda --lib --}"
mkdir -p "$out"
runs="$out/runs"

# step NAME COMMAND..: stdout and stderr to NAME.txt, exit code and seconds to steps.tsv.
step() {
    local name=$1 start=$SECONDS code=0
    shift
    printf '== %s: %s\n' "$name" "$*"
    "$@" >"$out/$name.txt" 2>&1 || code=$?
    printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - start))" | tee -a "$out/steps.tsv"
}

# keep RUN: what a run says of itself, without its weights.
keep() {
    local run=$1 folder
    folder=$(ls -d "$runs"/*/"$run" 2>/dev/null | tail -n 1)
    [ -n "$folder" ] || return 0
    for file in plan.json metrics.jsonl config.resolved.yaml curves.svg confusion_matrix.svg; do
        [ -f "$folder/$file" ] && cp "$folder/$file" "$out/$run.$file"
    done
}

date -u +%FT%TZ >"$out/date.txt"
step card nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,compute_cap --format=csv

# The kernels against their definitions in f64, in bf16 too, which only a card has.
step kernels "${kernel_tests[@]}" on_cuda --ignored

# The same configurations as on the CPU, unchanged but for the device.
step quickstart "$stoker" train --config configs/quickstart.yaml --device cuda:0 --set "output=$runs"
keep quickstart
step quickstart_predict "$stoker" predict --run "$runs/latest" --input data/quickstart/test --device cuda:0 \
    --tta essential --output "$out/quickstart.csv"
# The card's weights on the CPU: predictions must agree.
step quickstart_predict_cpu "$stoker" predict --run "$runs/latest" --input data/quickstart/test --device cpu \
    --tta essential --output "$out/quickstart_cpu.csv"
if [ -d data/sign_digits/train ]; then
    step sign_digits "$stoker" train --config configs/sign_digits.yaml --device cuda:0 --set "output=$runs"
    keep sign_digits
fi

# Predicted against reserved bytes at two batch sizes of a larger model.
for batch in 32 128; do
    step "memory_$batch" "$stoker" train --config configs/quickstart.yaml --device cuda:0 --set "output=$runs" \
        --set "name=memory_$batch" --set model.name=convnext_tiny --set model.image_size=224 --set train.epochs=1 \
        --set "train.effective_batch_size=$batch" --set "train.micro_batch_size=$batch"
    keep "memory_$batch"
done
# A micro-batch that the card cannot hold: the run must halve it, say so, and end.
step out_of_memory "$stoker" train --config configs/quickstart.yaml --device cuda:0 --set "output=$runs" --set name=out_of_memory \
    --set model.name=convnext_base --set model.image_size=224 --set train.epochs=1 --set train.effective_batch_size=800 \
    --set train.micro_batch_size=800
cp "$(ls -d "$runs"/*/out_of_memory | tail -n 1)/memory_events.jsonl" "$out/" 2>/dev/null

# The card stands in for smaller ones: another process holds all but 6, 8, 12 and 24 GiB. The plan must hold without out-of-memory, and the first
# micro-batch beyond its maximum must run out of memory or reserve more than the budget.
stand_in() {
    local gib=$1 free code=0
    shift
    coproc HOLDER { python3 scripts/hold_memory.py "$gib"; }
    # Bash forgets them when the holder ends.
    local from=${HOLDER[0]} to=${HOLDER[1]} holder=$HOLDER_PID
    if read -r free <&"$from"; then
        echo "$free"
        planned_and_beyond "stand_in_$gib" "$@" || code=$?
    else
        code=1
    fi
    # Whatever came of it, the memory is given back: the steps that follow want all of it.
    exec {to}>&-
    wait "$holder" || code=$?
    return "$code"
}

planned_and_beyond() {
    local run=$1 beyond
    shift
    "$@" --set "name=$run" || return 1
    keep "$run"
    beyond=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["plan"]["levels"]["maximum"]["batch"] + 4)' "$out/$run.plan.json")
    echo "== beyond the maximum: $beyond images at once"
    "$@" --set "name=${run}_beyond" --set "train.micro_batch_size=$beyond" --set train.effective_batch_size="$beyond"
    echo "exit $? (refused by the plan, as it must be, when 2)"
    "$@" --set "name=${run}_forced" --set "train.micro_batch_size=$beyond" --set train.effective_batch_size="$beyond" --set memory.safety_margin=0
    echo "exit $? without a margin"
    keep "${run}_forced"
    [ ! -s "$(ls -d "$runs"/*/"$run" | tail -n 1)/memory_events.jsonl" ]
}
if python3 -c 'import torch' 2>/dev/null; then
    for gib in 6 8 12 24; do
        step "stand_in_$gib" stand_in "$gib" "$stoker" train --config configs/quickstart.yaml --device cuda:0 --set "output=$runs" \
            --set model.name=convnext_tiny --set model.image_size=224 --set train.epochs=1 --set train.effective_batch_size=800
    done
fi

# Predicted (captured graph, dry run) against reserved bytes: families, image sizes, precisions, checkpointing.
step memory_grid "$stoker" bench memory --device cuda:0 --models convnext_tiny,convnext_base,swin_tiny,swin_base,efficientnet_b0,efficientnet_b4 \
    --sizes 224,384 --batches 4,16 --precisions fp32,bf16 --checkpointing none,balanced,segments

# What a step launches, and the bytes that it reads and writes.
step launches "$stoker" bench step --model convnext_tiny --batch 32 --device cuda:0 --precision bf16 --launches --composed

# Each operation beside what the card copies and multiplies.
step rooflines "$stoker" bench kernels --device cuda:0 --sizes 224,384 --batch 64 --precision bf16

# The plan for this card from the graph alone, beside the one from the dry run on it.
step plan_dry_run "$stoker" plan --model convnext_base --img-size 224 --device cuda:0
step plan_captured "$stoker" plan --model convnext_base --img-size 224 --device cuda:0 --source captured

# Logits and the gradients of every parameter against timm, one model of each family.
if python3 -c 'import safetensors, timm, torch' 2>/dev/null; then
    step parity python3 scripts/check_full_size.py --stoker "$stoker" --device cuda:0 --filter convnext_tiny,swin_tiny,efficientnet_b0
fi

# Speed and memory beside PyTorch, eager and compiled, where it is installed.
if python3 -c 'import timm, torch' 2>/dev/null; then
    step speed python3 scripts/bench_against_pytorch.py --device cuda:0 --stoker "$stoker" --rounds 2 --steps 10 \
        --models convnext_tiny,convnext_base,swin_base_patch4_window7_224,efficientnet_b0,efficientnet_b4 --batches 32,128 --json "$out/speed.json"
    step speed_384 python3 scripts/bench_against_pytorch.py --device cuda:0 --stoker "$stoker" --rounds 2 --steps 10 --size 384 \
        --models convnext_base,swin_base_patch4_window12_384 --batches 32 --json "$out/speed_384.json"
    step kernels_beside_pytorch python3 scripts/bench_kernels_against_pytorch.py --device cuda:0 --stoker "$stoker" --sizes 224,384 --batch 64 \
        --precision bf16 --rounds 1 --times 10 --json "$out/kernels.json"
fi
rm -rf "$runs"
cat "$out/steps.tsv"
