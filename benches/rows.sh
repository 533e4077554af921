#!/usr/bin/env bash
# What the comparison does not measure, because it has no peer: what a rate costs while the state is cut and copied, with a
# million live keys, with a large state and many channels; how much disk and memory is taken, and how long a start takes.
# Three nodes on this machine with fresh data, which is deleted at the end. The machine should do nothing else.
#
#   benches/rows.sh [ROW...]      idle start disk keyed schema disturbed consumers channels growth; all unless some are
#                                 named. LIMINAL names the binary, ROUNDS how often rates are taken (5),
#                                 LIMINAL_TEST_DATA the real messages without which `schema` is left out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source benches/nodes.sh

liminal=$(realpath "${LIMINAL:-target/dist/liminal}")
rounds=${ROUNDS:-5}
rows=("$@")
((${#rows[@]})) || rows=(idle start disk keyed schema disturbed consumers channels growth)
data=${LIMINAL_TEST_DATA:-}
unset LIMINAL_TEST_DATA # to a node it would be a setting
all=$(mktemp -d "${TMPDIR:-$PWD}/liminal-rows.XXXXXX")
dir=$all
servers=http://127.0.0.1:7101,http://127.0.0.1:7102,http://127.0.0.1:7103
trap 'stop; rm -rf "$all"' EXIT

# Starts the nodes on what is in the directory; `fresh` takes another one. More arguments are settings.
start() { start_nodes "$liminal" "$dir" "$@"; }
# Gives the space of what was there back without deleting any file: ext4 without a journal makes new files slowly, at the
# price of CPU, for minutes after many were deleted.
another() {
    stop
    find "$dir" -type f -exec truncate -s 0 {} +
    dir=$(mktemp -d "$all/XXXXXX")
    sync
}
fresh() {
    another
    start "$@"
}
client() { env LIMINAL_SERVER="$servers" "$liminal" "$@"; }
# Publishes for three seconds, or $duration, as often as rates are taken, or $rounds; `of` says what came of it.
runs() {
    for ((round = 0; round < rounds; round++)); do
        client bench publish --warmup 1s --duration "${duration:-3s}" --server-pids "$(IFS=,; echo "${pids[*]}")" \
            -o json "$@"
    done >"$dir/runs"
}
# The median of one figure of the runs, or of those in another file: rate, p50_us, ...
of() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" "${2:-$dir/runs}" | median; }
median() { sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] " (" value[1] " to " value[NR] ")" }'; }
repeated() {
    local name=$1
    shift
    runs "$@" && of "$name"
}
# Messages in a channel; none where there is no such channel.
stored() { client channel show "$1" -o json 2>/dev/null | sed -E 's/.*"messages":([0-9]+).*/\1/' | grep . || echo 0; }
# Publishes so many messages, as fast as they are taken.
fill() {
    local channel=$1 wanted=$2
    shift 2
    while (($(stored "$channel") < wanted)); do
        client bench publish --channel "$channel" --in-flight 4096 --warmup 0s --duration 3s "$@" >/dev/null
    done
}
resident() { for pid in "${pids[@]}"; do awk '/VmRSS/ { printf "%d ", $2 / 1024 }' "/proc/$pid/status"; done; }
# Clock ticks of all nodes, 100 a second.
ticks() { for pid in "${pids[@]}"; do awk '{ print $14 + $15 }' "/proc/$pid/stat"; done | awk '{ all += $1 } END { print all }'; }
# CPU of all nodes in percent of a core, over ten seconds in which nobody asks for anything.
idle_cpu() {
    local before
    before=$(ticks)
    sleep 10
    awk "BEGIN { printf \"%.1f %%\", ($(ticks) - $before) / 10 }"
}
# The same request for so many names: the end of the URL, or what stands before the last argument, counts from 1.
every() {
    local count=$1 flag=$2 value=$3 url=$4 rest=${5:-}
    curl -fsS -Z --parallel-max 64 -o /dev/null "$flag" "$value" "$url[1-$count]$rest" 2>/dev/null
}
since() { awk "BEGIN { printf \"%.2f s\", ($(date +%s%N) - $1) / 1e9 }"; }

row_idle() {
    fresh
    sleep 5
    echo "idle: resident $(resident)MiB, CPU of three nodes $(idle_cpu) of a core"
}

row_start() {
    for ((round = 0; round < rounds; round++)); do
        another
        begun=$(date +%s%N)
        start
        echo "start, fresh: ready after $(since "$begun")"
    done
    fill bench 1000000
    for ((round = 0; round < rounds; round++)); do
        stop
        begun=$(date +%s%N)
        start
        echo "start with 1 M messages: ready after $(since "$begun")"
    done
    echo "resident after 1 M messages and a start: $(resident)MiB, CPU when idle $(idle_cpu)"
}

row_disk() {
    fresh --set raft.log_keep_entries=10 --set raft.log_keep_bytes=1048576
    fill bench 1000000
    client cluster snapshot >/dev/null
    sleep 15 # until what is folded is purged
    messages=$(stored bench)
    for node in 1 2 3; do
        awk "BEGIN { printf \"disk: %d bytes for each of $messages messages of 256 B on n$node\n\", $(du -sb "$dir/n$node" | cut -f1) / $messages }"
    done
}

row_keyed() {
    fresh --set limits.live_keys=20000000
    # In turns: what the machine does besides changes from minute to minute. Each turn has a channel of its own, so that the
    # keys that live in it are a million and a few.
    for ((turn = 0; turn < rounds; turn++)); do
        fill "keyed$turn" 1000000 --keys
        rounds=1 runs --channel plain && cat "$dir/runs" >>"$dir/plain"
        rounds=1 runs --channel "keyed$turn" --keys && cat "$dir/runs" >>"$dir/keyed"
    done
    echo "publish, 256 in flight: $(of rate "$dir/plain"), server CPU $(of server_cpu_s_per_million "$dir/plain") s per million"
    echo "the same with keys, 1 to 1.5 M live: $(of rate "$dir/keyed"), server CPU $(of server_cpu_s_per_million "$dir/keyed") s per million"
    fresh --set limits.live_keys=20000000
    rounds=1 duration=55s runs --keys
    echo "longest publish while keys grow from none to millions: $(of max_us) us"
}

# What a schema's check takes of the servers' CPU for each message: `cargo bench` says what the bare library takes.
row_schema() {
    if [[ -z $data ]]; then
        echo "schema: left out, LIMINAL_TEST_DATA names no directory"
        return
    fi
    fresh
    sed -nE 's/^\{"event":"pull_request","example":"[^"]*","payload":(.*)\}$/\1/p' "$data/events.ndjson" \
        >"$dir/payloads"
    client channel create free >/dev/null
    client channel create checked --schema "$data/schemas/pull_request.json" >/dev/null
    for channel in free checked; do
        runs --channel "$channel" --payloads "$dir/payloads"
        echo "real payloads, channel $channel: $(of rate) a second, server CPU $(of server_cpu_s_per_million) us a message"
    done
}

row_disturbed() {
    fresh --set raft.log_keep_entries=1000
    fill bench 1000000
    for what in quiet disturbed; do
        if [[ $what == disturbed ]]; then
            (while client cluster snapshot >/dev/null 2>&1; do sleep 0.5; done) &
            disturbing=$!
        fi
        for ((round = 0; round < rounds; round++)); do
            client bench publish --rate 2000 --in-flight 100000 --warmup 2s --duration 15s -o json |
                sed -E "s/.*\"p50_us\":([0-9]+).*\"p99_us\":([0-9]+).*\"p999_us\":([0-9]+).*\"max_us\":([0-9]+).*/2,000 a second, $what: p50 \1, p99 \2, p99.9 \3, longest \4 us/"
        done
    done
    kill "$disturbing" 2>/dev/null || true
    wait "$disturbing" 2>/dev/null || true
}

row_consumers() {
    fresh
    client channel create orders >/dev/null
    before=$(resident)
    for ((number = 1; number <= 20000; number++)); do
        ((number == 1)) || echo next
        printf 'silent\nfail\noutput = /dev/null\nurl = http://127.0.0.1:7201/v1/channels/orders/consumers\n'
        printf 'data = "{\\"name\\":\\"c%d\\"}"\n' "$number"
    done | curl -K -
    sleep 5
    echo "20,000 idle consumers: resident $before to $(resident)MiB, CPU $(idle_cpu)"
    echo "publish, 256 in flight, to their channel: $(repeated rate --channel orders)"
    echo "the same to another channel: $(repeated rate --channel plain)"
}

row_channels() {
    fresh
    echo "publish, 256 in flight, to one channel: $(repeated rate)"
    every 10000 -X PUT http://127.0.0.1:7201/v1/channels/c
    every 10000 -d 1 http://127.0.0.1:7201/v1/channels/c /messages
    echo "the same beside 10,000 others: $(repeated rate), resident $(resident)MiB, CPU when idle $(idle_cpu)"
    stop
    begun=$(date +%s%N)
    start
    echo "start with 10,000 channels: ready after $(since "$begun")"
}

row_growth() {
    fresh
    echo "publish, 256 in flight, to an empty cluster: $(repeated rate --channel first)"
    fill bench 10000000
    sleep 10
    echo "the same with 10 M messages: $(repeated rate), resident $(resident)MiB, CPU when idle $(idle_cpu)"
    stop
    begun=$(date +%s%N)
    start
    echo "start with 10 M messages: ready after $(since "$begun")"
}

for row in "${rows[@]}"; do "row_$row"; done
