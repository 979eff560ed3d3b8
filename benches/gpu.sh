#!/usr/bin/env bash
# The bench on a machine with an NVIDIA GPU: golden self-tests on CUDA and through wgpu, then training steps and greedy
# generation by `finetune bench`, each beside its twin in transformers + PEFT (peft_twin.py), in one call.
#
#     benches/gpu.sh          everything; results in $OUT (default ./gpu-bench)
#     benches/gpu.sh --dry    the same commands on the CPU at toy size, to try the script without a GPU
#
# Writes results.jsonl (one line a measurement, failures too), table.md and log.txt. A part that fails or runs over its
# time is noted and the rest goes on. The exit status is 1 if our program failed a self-test or a part.
# Environment:
#     FINETUNE   the program, built with `--features cuda` (default target/release/finetune)
#     PYTHON     a Python with torch, transformers and peft (default python3); without one, the twins fail and we still run
#     GOLDEN     the folder of golden cases (default tests/golden)
#     SHAPES     of smollm2-135m, qwen2.5-1.5b, llama-3-8b (default all three, smallest first)
#     DEVICES    of our program (default "cuda webgpu"; only the first one takes shapes beyond the smallest)
#     STEPS, LIMIT_S, BUDGET_S     timed steps (10), seconds for one part (240), seconds for all of them (3600)
#     PEAK_BF16_TFLOPS, PEAK_F32_TFLOPS     for the MFU column; known for A100, H100 and H200
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dry=
case "${1:-}" in
    '') ;;
    --dry) dry=1 ;;
    *) sed -n '2,/^set -/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
finetune=${FINETUNE:-$here/../target/release/finetune}
python=${PYTHON:-python3}
golden=${GOLDEN:-$here/../tests/golden}
out=${OUT:-gpu-bench}
limit_s=${LIMIT_S:-240}
budget_s=${BUDGET_S:-3600}
if [ -n "$dry" ]; then
    shapes=toy devices=cpu twin_device=cpu steps=${STEPS:-2}
else
    shapes=${SHAPES:-smollm2-135m qwen2.5-1.5b llama-3-8b} devices=${DEVICES:-cuda webgpu} twin_device=cuda steps=${STEPS:-10}
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
results=$out/results.jsonl log=$out/log.txt failed=0
: > "$results"
: > "$log"

say() { printf '%s\n' "$*" | tee -a "$log"; }

# The CUDA kernels need libdevice at run time: the machine's own toolkit, or one carried beside the program.
for dir in "$(dirname "$finetune")/cuda" "$here/../cuda"; do
    if [ -z "${CUDA_PATH:-}" ] && [ -f "$dir/nvvm/libdevice/libdevice.10.bc" ]; then
        CUDA_PATH=$(cd "$dir" && pwd)
        export CUDA_PATH
    fi
done

# Writes the most memory that the first GPU had in use, in bytes, until it is killed. The kernels' allocator has no
# counter of its own to ask.
watch_memory() {
    local most=0 used
    while used=$(nvidia-smi --id=0 --query-gpu=memory.used --format=csv,noheader,nounits); do
        [ "$used" -le "$most" ] || { most=$used && echo $((most * 1048576)) > "$work/memory"; }
        sleep 0.2
    done
}

# measure SIDE WHAT METHOD SHAPE DTYPE BATCH TOKENS DEVICE -- COMMAND...: runs the command, which writes $work/one.json.
measure() {
    local side=$1 part result= rc=0 left_s=$((budget_s - SECONDS))
    part=$(printf '"what":"%s","method":"%s","shape":"%s","dtype":"%s","batch":%s,"tokens":%s,"device":"%s"' "${@:2:7}")
    shift 9
    local watch=
    rm -f "$work/one.json" "$work/memory"
    if [ -n "$gpu" ] && [ "$side" = ours ]; then
        watch_memory 2> /dev/null &
        watch=$!
    fi
    say "== $side: $*"
    if [ "$left_s" -le 0 ]; then
        rc=124
        say "   not started: $budget_s s are over"
    else
        timeout -k 10 "$((left_s < limit_s ? left_s : limit_s))" "$@" > "$work/printed" 2>&1 || rc=$?
        cat "$work/printed" >> "$log"
    fi
    [ -z "$watch" ] || kill "$watch"
    [ -s "$work/one.json" ] && [ "$rc" = 0 ] && result=$(tr -d '\n' < "$work/one.json")
    if [ -n "$result" ]; then
        [ ! -s "$work/memory" ] || result="${result%\}*},\"peak_device_bytes\":$(cat "$work/memory")}"
        printf '{"side":"%s",%s,"result":%s}\n' "$side" "$part" "$result" >> "$results"
    else
        [ "$rc" != 0 ] || rc='"no result"'
        say "   failed: $rc"
        printf '{"side":"%s",%s,"error":%s}\n' "$side" "$part" "$rc" >> "$results"
        [ "$side" = twin ] || failed=1
    fi
}

# compare WHAT METHOD SHAPE DTYPE BATCH TOKENS: ours on each device, then the twin.
compare() {
    local what=$1 method=$2 shape=$3 dtype=$4 batch=$5 tokens=$6 device twin_dtype=$4
    local shared=(--batch "$batch" --tokens "$tokens" --steps "$steps" --json "$work/one.json")
    # Full tuning keeps f32 weights under bf16 arithmetic; the twin does the same by autocast.
    [ "$method/$dtype" != full/bf16 ] || twin_dtype=mixed
    [ "$what" = generate ] && shared+=(--prompt 32) || shared+=(--method "$method")
    for device in $devices; do
        [ "$device" = "${devices%% *}" ] || [ "$shape" = "${shapes%% *}" ] || continue
        measure ours "$@" "$device" -- "$finetune" bench "$what" --shape "$shape" --device "$device" \
            --dtype "$dtype" "${shared[@]}"
    done
    measure twin "$@" "$twin_device" -- "$python" "$here/peft_twin.py" "$what" --random "$shape" --device "$twin_device" \
        --dtype "$twin_dtype" "${shared[@]}"
}

say "finetune: $finetune  CUDA_PATH: ${CUDA_PATH:-not set}"
{
    date -u
    nvidia-smi
    "$finetune" --version
    timeout "$limit_s" "$finetune" doctor
} >> "$log" 2>&1
[ -x "$finetune" ] || say "no program at $finetune: build it with \`cargo build --release --features cuda\`, or set FINETUNE"
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
case "$gpu" in
    *H100*|*H200*) peak_bf16=989 peak_f32=67 ;;
    *A100*) peak_bf16=312 peak_f32=19.5 ;;
    *) peak_bf16='' peak_f32='' ;;
esac

for device in $devices; do
    say "== self-test on $device"
    if timeout -k 10 "$limit_s" "$finetune" doctor --selftest "$golden" --device "$device" >> "$log" 2>&1; then
        say "   passed" && verdict=passed
    else
        say "   FAILED" && verdict=FAILED failed=1
    fi
    printf '{"selftest":"%s","device":"%s"}\n' "$verdict" "$device" >> "$results"
done

for shape in $shapes; do
    case "$shape" in
        toy) tokens=64 batch=2 dtypes=f32 methods='lora full' ;;
        smollm2-135m) tokens=1024 batch=16 dtypes='f32 bf16' methods='lora full' ;;
        qwen2.5-1.5b) tokens=1024 batch=8 dtypes='bf16' methods='lora full' ;;
        # Full tuning of 8 billion weights with f32 optimizer state is more than one card holds.
        llama-3-8b) tokens=1024 batch=4 dtypes='bf16' methods='lora' ;;
        *) say "no shape $shape"; failed=1; continue ;;
    esac
    for dtype in $dtypes; do
        for method in $methods; do compare step "$method" "$shape" "$dtype" "$batch" "$tokens"; done
        compare generate '' "$shape" "$dtype" 8 64
    done
done

"$python" "$here/table.py" "$results" --title "${gpu:-no GPU}" --peak "bf16=${PEAK_BF16_TFLOPS:-$peak_bf16}" \
    --peak "f32=${PEAK_F32_TFLOPS:-$peak_f32}" > "$out/table.md" 2>> "$log" || say "table.md was not written, see log.txt"
cat "$out/table.md"
exit "$failed"
