#!/usr/bin/env bash
# The bench on a machine with an NVIDIA GPU: golden self-tests on CUDA and through wgpu, then training steps and greedy
# generation by `finetune bench`, each beside its twin in transformers + PEFT (peft_twin.py), in one call.
#
#     benches/gpu.sh          everything; results in $OUT (default ./gpu-bench)
#     benches/gpu.sh --dry    the same commands on the CPU at toy size, to try the script without a GPU; its profile is of webgpu,
#                             if the program and the machine have it
#
# Writes results.jsonl (one line a measurement, failures too), table.md, profile-BUILD.md and log.txt. A part that fails or runs
# over its time is noted and the rest goes on. The exit status is 1 if our program failed a self-test or a part.
# The profile is of one LoRA step of the largest shape: time by class of kernels, and which change is next (kernel_times.py).
# Environment:
#     FINETUNE   the program, built with `--features cuda` (default target/release/finetune), or several builds, each
#                NAME=PATH: "llvm=a/finetune nvrtc=b/finetune"
#     PYTHON     a Python with torch, transformers and peft (default python3); without one, the twins fail and we still run
#     GOLDEN     the folder of golden cases (default tests/golden)
#     TOKENS     of each row (default "1024 4096"; rows are fewer where they are longer)
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
builds=${FINETUNE:-$here/../target/release/finetune}
# Without a name it is the only one. The profile is taken in another folder.
case "$builds" in *=*) ;; *) builds="finetune=$builds" ;; esac
builds=$(for build in $builds; do echo "${build%%=*}=$(realpath "${build#*=}")"; done | tr '\n' ' ')
finetune=${builds%% *} finetune=${finetune#*=}
python=${PYTHON:-python3}
golden=${GOLDEN:-$here/../tests/golden}
out=${OUT:-gpu-bench}
limit_s=${LIMIT_S:-240}
budget_s=${BUDGET_S:-3600}
if [ -n "$dry" ]; then
    shapes=toy devices=cpu twin_device=cpu steps=${STEPS:-2} lengths=${TOKENS:-64 128}
else
    lengths=${TOKENS:-1024 4096}
    shapes=${SHAPES:-smollm2-135m qwen2.5-1.5b llama-3-8b} devices=${DEVICES:-cuda webgpu} twin_device=cuda steps=${STEPS:-10}
fi
# The processor has no kernels to look at.
profiled=${devices%% *}
[ -z "$dry" ] || profiled=webgpu
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

# measure SIDE BUILD WHAT METHOD SHAPE DTYPE BATCH TOKENS DEVICE -- COMMAND...: runs the command, which writes $work/one.json.
measure() {
    local side=$1 part result= rc=0 left_s=$((budget_s - SECONDS))
    part=$(printf '"build":"%s","what":"%s","method":"%s","shape":"%s","dtype":"%s","batch":%s,"tokens":%s,"device":"%s"' "${@:2:8}")
    shift 10
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
    local what=$1 method=$2 shape=$3 dtype=$4 batch=$5 tokens=$6 build device twin_dtype=$4
    local shared=(--batch "$batch" --tokens "$tokens" --steps "$steps" --json "$work/one.json")
    # Full tuning keeps f32 weights under bf16 arithmetic; the twin does the same by autocast.
    [ "$method/$dtype" != full/bf16 ] || twin_dtype=mixed
    [ "$what" = generate ] && shared+=(--prompt 32) || shared+=(--method "$method")
    for build in $builds; do
        for device in $devices; do
            [ "$device" = "${devices%% *}" ] || [ "$shape" = "${shapes%% *}" ] || continue
            measure ours "${build%%=*}" "$@" "$device" -- "${build#*=}" bench "$what" --shape "$shape" --device "$device" \
                --dtype "$dtype" "${shared[@]}"
        done
    done
    measure twin '' "$@" "$twin_device" -- "$python" "$here/peft_twin.py" "$what" --random "$shape" --device "$twin_device" \
        --dtype "$twin_dtype" "${shared[@]}"
}

# profile NAME PROGRAM SHAPE DTYPE BATCH TOKENS DEVICE: where the time of a LoRA step goes, and what is next.
profile() {
    local name=$1 program=$2 shape=$3 dtype=$4 folder=$work/profile-$1 wall
    local step=(bench step --shape "$shape" --dtype "$dtype" --batch "$5" --tokens "$6" --device "$7" --steps 1)
    say "== profile of $name: ${step[*]}"
    mkdir -p "$folder"
    # A warm-up fills the caches of kernels and of autotune, the second run is timed, the third is looked at.
    for _ in 1 2; do
        wall=$(cd "$folder" && timeout -k 10 "$limit_s" "$program" "${step[@]}" --json one.json > /dev/null 2>> "$log" &&
            "$python" -c 'import json; r = json.load(open("one.json")); print(2 * r["median_s"])' 2>> "$log") || true
    done
    printf '[profiling.logger]\nlevel = "basic"\nfile = "profile.log"\nappend = false\n' > "$folder/cubecl.toml"
    (cd "$folder" && timeout -k 10 "$limit_s" "$program" "${step[@]}" >> "$log" 2>&1) || say "   failed: $?"
    "$python" "$here/kernel_times.py" "$folder/profile.log" ${wall:+--wall "$wall"} > "$out/profile-$name.md" 2>> "$log" ||
        say "   no profile, see log.txt"
    cat "$out/profile-$name.md"
}

say "builds: $builds  CUDA_PATH: ${CUDA_PATH:-not set}"
{
    date -u
    nvidia-smi
    "$finetune" --version
    timeout "$limit_s" "$finetune" doctor
} >> "$log" 2>&1
for build in $builds; do
    [ -x "${build#*=}" ] || say "no program at ${build#*=}: build it with \`cargo build --release --features cuda\`, or set FINETUNE"
done
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
case "$gpu" in
    *H100*|*H200*) peak_bf16=989 peak_f32=67 ;;
    *A100*) peak_bf16=312 peak_f32=19.5 ;;
    *) peak_bf16='' peak_f32='' ;;
esac

for build in $builds; do
    for device in $devices; do
        say "== self-test of ${build%%=*} on $device"
        if timeout -k 10 "$limit_s" "${build#*=}" doctor --selftest "$golden" --device "$device" >> "$log" 2>&1; then
            say "   passed" && verdict=passed
        else
            say "   FAILED" && verdict=FAILED failed=1
        fi
        printf '{"selftest":"%s","build":"%s","device":"%s"}\n' "$verdict" "${build%%=*}" "$device" >> "$results"
    done
done

for shape in $shapes; do
    case "$shape" in
        # Positions of a step, whatever the length of its rows.
        toy) positions=128 dtypes=f32 methods='lora full' ;;
        smollm2-135m) positions=16384 dtypes='f32 bf16' methods='lora full' ;;
        qwen2.5-1.5b) positions=8192 dtypes='bf16' methods='lora full' ;;
        # Full tuning of 8 billion weights with f32 optimizer state is more than one card holds.
        llama-3-8b) positions=4096 dtypes='bf16' methods='lora' ;;
        *) say "no shape $shape"; failed=1; continue ;;
    esac
    for dtype in $dtypes; do
        for method in $methods; do
            for tokens in $lengths; do compare step "$method" "$shape" "$dtype" "$((positions / tokens))" "$tokens"; done
        done
        compare generate '' "$shape" "$dtype" 8 64
    done
done

# Of the largest shape, as it was measured last.
for build in $builds; do
    profile "${build%%=*}" "${build#*=}" "$shape" "$dtype" "$((positions / ${lengths%% *}))" "${lengths%% *}" "$profiled"
done

"$python" "$here/table.py" "$results" --title "${gpu:-no GPU}" --peak "bf16=${PEAK_BF16_TFLOPS:-$peak_bf16}" \
    --peak "f32=${PEAK_F32_TFLOPS:-$peak_f32}" > "$out/table.md" 2>> "$log" || say "table.md was not written, see log.txt"
cat "$out/table.md"
exit "$failed"
