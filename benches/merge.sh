#!/usr/bin/env bash
# Merging beside `cp` and mergekit, in one sitting: processor seconds, wall seconds, memory.
#   benches/merge.sh FINETUNE DIR [MERGEKIT]
# DIR has pre/ and post/ from benches/merge_models.py; MERGEKIT is a `mergekit-yaml` program
# (pip install mergekit==0.1.5), run once for each of PEERS (default "linear slerp ties breadcrumbs"). RUNS
# rounds (default 3), each of every other command; the best of each counts.
# A line has: command, wall s, user + system s, peak resident MB, ratio of processor seconds to cp's.
set -euo pipefail
program=$1 models=$(realpath "$2") mergekit=${3:-} runs=${RUNS:-3}
work=$(mktemp -d "$models/bench.XXXX")
trap 'rm -rf "$work"' EXIT

one() { # NAME COMMAND...
    local name=$1
    shift
    rm -rf "$work/out"
    sync
    cat "$models"/p*/*.safetensors > /dev/null # Into the page cache, whatever went out of it.
    /usr/bin/time -o "$work/time" -f "%e %U %S %M" "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    echo "${name// /-} $(tail -n 1 "$work/time")" >> "$work/all"
}

yaml() { # METHOD, as a YAML of mergekit's with its defaults
    echo "merge_method: $1"
    case $1 in
    linear) printf 'models:\n- {model: %s, parameters: {weight: 0.5}}\n- {model: %s, parameters: {weight: 0.5}}\n' \
        "$models/pre" "$models/post" ;;
    slerp) printf 'base_model: %s\nparameters: {t: 0.5}\nmodels:\n- {model: %s}\n- {model: %s}\n' \
        "$models/pre" "$models/pre" "$models/post" ;;
    ties) printf 'base_model: %s\nparameters: {lambda: 0.5}\nmodels:\n- {model: %s, parameters: {weight: 1, density: 0.2}}\n' \
        "$models/pre" "$models/post" ;;
    breadcrumbs) printf 'base_model: %s\nparameters: {lambda: 0.5}\nmodels:\n- {model: %s, parameters: {weight: 1, density: 0.9}}\n' \
        "$models/pre" "$models/post" ;;
    esac
}

bare="--no-statistics --no-digests"
for _ in $(seq "$runs"); do
    one cp cp -r "$models/pre" "$work/out"
    for spec in linear:0.5 slerp:0.5 ties:0.5,density=0.2 breadcrumbs:0.5,density=0.9; do
        # shellcheck disable=SC2086
        one "$spec" "$program" merge --pre "$models/pre" --post "$models/post" --out "$work/out" --merge "$spec" $bare
        one "$spec+all" "$program" merge --pre "$models/pre" --post "$models/post" --out "$work/out" --merge "$spec"
    done
    one start-up "$program" --version
    one cp cp -r "$models/pre" "$work/out"
done
if [ -n "$mergekit" ]; then
    for method in ${PEERS:-linear slerp ties breadcrumbs}; do
        yaml "$method" > "$work/$method.yml"
        one "mergekit $method" "$mergekit" "$work/$method.yml" "$work/out" --quiet
    done
fi
awk '
    { cpu = $3 + $4
      if (!($1 in best) || cpu < best[$1]) { best[$1] = cpu; wall[$1] = $2; memory[$1] = $5 }
      if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } }
    END { printf "%-30s %8s %8s %8s %8s\n", "command", "wall s", "cpu s", "MB", "x cp"
          for (i = 1; i <= n; i++) { c = order[i]
              printf "%-30s %8.2f %8.2f %8.0f %8.2f\n", c, wall[c], best[c], memory[c] / 1000, best[c] / best["cp"] } }
' "$work/all"
