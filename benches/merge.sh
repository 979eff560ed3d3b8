#!/usr/bin/env bash
# Merging beside `cp` and mergekit, in one sitting: processor seconds, wall seconds, memory.
#   benches/merge.sh FINETUNE DIR [MERGEKIT]
# DIR has pre/ and post/ from benches/merge_models.py; MERGEKIT is a `mergekit-yaml` program
# (pip install mergekit==0.1.5). RUNS rounds (default 3), each of every command; the best of each counts.
# A line has: command, wall s, user + system s, peak resident MB, ratio of processor seconds to cp's.
set -euo pipefail
program=$1 models=$2 mergekit=${3:-} runs=${RUNS:-3}
work=$(mktemp -d "$models/bench.XXXX")
trap 'rm -rf "$work"' EXIT
cat "$models"/*/*.safetensors > /dev/null # Into the page cache.

one() { # NAME COMMAND...
    local name=$1
    shift
    rm -rf "$work/out"
    sync
    /usr/bin/time -o "$work/time" -f "%e %U %S %M" "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    echo "$name $(cat "$work/time")" >> "$work/all"
}
merge() { "$program" merge --pre "$models/pre" --post "$models/post" --out "$work/out" "$@"; }
export -f merge
export program models work

cat > "$work/linear.yml" <<EOF
merge_method: linear
dtype: float32
out_dtype: bfloat16
models:
- {model: $models/pre, parameters: {weight: 0.5}}
- {model: $models/post, parameters: {weight: 0.5}}
EOF
bare="--no-statistics --no-digests"
for _ in $(seq "$runs"); do
    one cp cp -r "$models/pre" "$work/out"
    for spec in linear:0.5 slerp:0.5 ties:0.5,density=0.2 breadcrumbs:0.5,density=0.9; do
        # shellcheck disable=SC2086
        one "$spec" "$program" merge --pre "$models/pre" --post "$models/post" --out "$work/out" --merge "$spec" $bare
        one "$spec+all" "$program" merge --pre "$models/pre" --post "$models/post" --out "$work/out" --merge "$spec"
    done
    one start-up "$program" --version
    if [ -n "$mergekit" ]; then one mergekit-linear "$mergekit" "$work/linear.yml" "$work/out" --quiet; fi
done
awk '
    { cpu = $3 + $4
      if (!($1 in best) || cpu < best[$1]) { best[$1] = cpu; wall[$1] = $2; memory[$1] = $5 }
      if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } }
    END { printf "%-30s %8s %8s %8s %8s\n", "command", "wall s", "cpu s", "MB", "x cp"
          for (i = 1; i <= n; i++) { c = order[i]
              printf "%-30s %8.2f %8.2f %8.0f %8.2f\n", c, wall[c], best[c], memory[c] / 1000, best[c] / best["cp"] } }
' "$work/all"
