#!/usr/bin/env bash
# Whether a build is slower than another one: the rows of the comparison with both, in turns, on fresh clusters of three
# nodes of this machine, each asked by its own client. The machine should do nothing else.
#
#   benches/builds.sh BEFORE AFTER [ROW...]    two binaries; all rows unless numbers of rows are given
#
# ROUNDS (5) and SECONDS_EACH (2) say how often and how long each is measured. Prints the medians with their ranges, and
# the ratio of the medians: of the rates, and where a rate is given of the CPU that a million messages took.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source benches/nodes.sh

builds=("$(realpath "${1:?}")" "$(realpath "${2:?}")")
shift 2
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-2}
dir=$(mktemp -d "${TMPDIR:-$PWD}/liminal-builds.XXXXXX")
export LIMINAL_SERVER=http://127.0.0.1:7101,http://127.0.0.1:7102,http://127.0.0.1:7103

names=(
    "publish, 1 in flight"
    "publish, 16 in flight"
    "publish, 256 in flight"
    "publish, 256 in flight, 8 connections"
    "publish 1 KiB, 1 in flight"
    "publish 1 KiB, 256 in flight"
    "ack latency at 2,000/s"
    "fan-out to 12, 64 in flight"
    "fan-out to 12, 256 in flight"
    "fan-out to 12 at 1,000/s"
    "replay of 1 M"
    "publish with keys, 256 in flight"
)
works=(
    "publish --size 256 --in-flight 1"
    "publish --size 256 --in-flight 16"
    "publish --size 256 --in-flight 256"
    "publish --size 256 --in-flight 256 --connections 8"
    "publish --size 1024 --in-flight 1"
    "publish --size 1024 --in-flight 256"
    "publish --size 256 --in-flight 10000 --rate 2000"
    "fanout --size 256 --subscribers 4 --in-flight 64"
    "fanout --size 256 --subscribers 4 --in-flight 256"
    "fanout --size 256 --subscribers 4 --in-flight 10000 --rate 1000"
    "replay --count 1000000"
    "publish --size 256 --in-flight 256 --keys"
)
rows=("$@")
((${#rows[@]})) || rows=($(seq 1 ${#names[@]}))

trap 'stop; rm -rf "$dir"' EXIT

measure() {
    local build=$1 work=$2 data
    data=$(mktemp -d "$dir/XXXXXX")
    start_nodes "$build" "$data"
    if [[ $work == replay* ]]; then
        while (($("$build" channel show bench -o json 2>/dev/null | sed -nE 's/.*"next_seq":([0-9]+).*/\1/p' | grep . || echo 0) < 1000000)); do
            "$build" bench publish --size 256 --in-flight 4096 --warmup 0s --duration 2s >/dev/null
        done
        stop
        start_nodes "$build" "$data"
    else
        work+=" --warmup 1s --duration ${seconds}s"
    fi
    # shellcheck disable=SC2086 # a row is several words
    "$build" bench $work --server-pids "$(IFS=,; echo "${pids[*]}")" -o json
    stop
    # Emptied and not deleted: see rows.sh.
    find "$data" -type f -exec truncate -s 0 {} +
    sync
}

for ((round = 1; round <= rounds; round++)); do
    for row in "${rows[@]}"; do
        # Whoever is first in a round is second in the next one.
        for which in $((round % 2)) $(((round + 1) % 2)); do
            measure "${builds[$which]}" "${works[row - 1]}" >>"$dir/$row.$which" ||
                echo "round $round, ${names[row - 1]}, build $which: failed" >&2
        done
    done
done

values() { sed -nE "s/.*\"$1\":([0-9.]+).*/\1/p" "$2" | sort -n; }
median() { values "$1" "$2" | awk '{ value[NR] = $1 } END { printf "%s", value[int((NR + 1) / 2)] }'; }
range() { values "$1" "$2" | awk '{ value[NR] = $1 } END { printf "%s (%s to %s)", value[int((NR + 1) / 2)], value[1], value[NR] }'; }
ratio() { awk "BEGIN { printf \"%.3f\", $(median "$1" "$dir/$2.1") / $(median "$1" "$dir/$2.0") }"; }

echo "| Work | Before: rate/s | After: rate/s | Ratio | Before: p50, p99 us | After: p50, p99 us | CPU s per million, before, after | Ratio |"
echo "|---|---|---|---|---|---|---|---|"
for row in "${rows[@]}"; do
    cells="| ${names[row - 1]} | $(range rate "$dir/$row.0") | $(range rate "$dir/$row.1") | $(ratio rate "$row")"
    for which in 0 1; do cells+=" | $(median p50_us "$dir/$row.$which"), $(median p99_us "$dir/$row.$which")"; done
    cpu=server_cpu_s_per_million
    echo "$cells | $(median $cpu "$dir/$row.0"), $(median $cpu "$dir/$row.1") | $(ratio $cpu "$row") |"
done
