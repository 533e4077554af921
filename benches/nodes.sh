# Three nodes on this machine, for the scripts beside this one, which read it with `source`. They run in the repository's
# root, and end the nodes when they end.

pids=()

stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    pids=()
}

# Starts the nodes of a binary on what is in a directory, and waits until all are ready. More arguments are settings.
start_nodes() {
    local binary=$1 data=$2 node port
    shift 2
    for node in 1 2 3; do
        env -u LIMINAL_SERVER "$binary" serve --config "$PWD/cluster/node$node.toml" --set "persistence_path=$data/n$node" "$@" \
            2>>"$data/n$node.log" &
        pids+=($!)
    done
    for port in 7201 7202 7203; do
        until curl -fsS -o /dev/null "http://127.0.0.1:$port/ready" 2>/dev/null; do
            for pid in "${pids[@]}"; do kill -0 "$pid" || { tail "$data"/n[123].log >&2; exit 1; }; done
            sleep 0.01
        done
    done
}
