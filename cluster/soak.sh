#!/usr/bin/env bash
# A soak: three nodes on this machine under full load for a long time, with the log cut every few seconds and channels that
# are filled and deleted, so that snapshots, purges, folds and compactions run all the while. Ends with the states compared,
# and fails when a node ended, a publish failed or somebody was elected without need.
#
#   cluster/soak.sh [MINUTES]      20 unless given; LIMINAL names the binary, RATE and SIZE the load; KEEP=1 deletes
#                                nothing, and takes RATE x SIZE x 3 of disk
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=${1:-20}
liminal=$(realpath "${LIMINAL:-target/dist/liminal}")
root=$PWD
rate=${RATE:-16000}
size=${SIZE:-1024}
dir=$(mktemp -d "${TMPDIR:-/tmp}/liminal-soak.XXXXXX")
export LIMINAL_SERVER=http://127.0.0.1:7101,http://127.0.0.1:7102,http://127.0.0.1:7103
pids=()
# What failed leaves its logs behind; the data goes either way, because it fills disks.
cleanup() {
    local status=$?
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if ((status == 0)); then rm -rf "$dir"; else
        rm -rf "$dir"/n[123]
        echo "the nodes' logs are in $dir" >&2
    fi
}
trap cleanup EXIT

for node in 1 2 3; do
    (cd "$dir" && unset LIMINAL_SERVER && exec "$liminal" serve --config "$root/cluster/node$node.toml" \
        --set "persistence_path=$dir/n$node" --set raft.log_keep_entries=1000 2>"$dir/n$node.log") &
    pids+=($!)
done
until "$liminal" cluster status >/dev/null 2>&1; do sleep 0.2; done
term() { "$liminal" cluster status -o json | sed -E 's/.*"term":([0-9]+).*/\1/'; }
begun=$(term)
echo "minute  rate/s  p50 ms  p99 ms  max ms  errors  resident MiB     disk MiB"
for ((minute = 1; minute <= minutes; minute++)); do
    figures=$("$liminal" bench publish --channel "soak-$minute" --rate "$rate" --size "$size" --in-flight 100000 \
        --warmup 1s --duration 58s -o json) || { echo "$figures" >&2; exit 1; }
    field() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<<"$figures"; }
    ms() { awk "BEGIN { printf \"%.1f\", $(field "$1") / 1000 }"; }
    rss=$(for pid in "${pids[@]}"; do awk '/VmRSS/ { printf "%d ", $2 / 1024 }' "/proc/$pid/status"; done)
    disk=$(for node in 1 2 3; do du -sm "$dir/n$node" | awk '{ printf "%d ", $1 }'; done)
    printf '%6d %7.0f %7s %7s %7s %7s  %-15s %s\n' "$minute" "$(field rate)" "$(ms p50_us)" "$(ms p99_us)" "$(ms max_us)" \
        "$(field errors)" "$rss" "$disk"
    if ((minute > 1)) && [[ -z ${KEEP:-} ]]; then "$liminal" channel delete "soak-$((minute - 1))" --yes >/dev/null; fi
    for pid in "${pids[@]}"; do kill -0 "$pid" || { echo "a node has ended" >&2; exit 1; }; done
done
ended=$(term)
"$liminal" cluster verify
grep -h "panicked" "$dir"/n*.log && exit 1
echo "term $begun at the beginning, $ended at the end"
[[ $begun == "$ended" ]]
