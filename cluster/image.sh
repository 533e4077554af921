#!/usr/bin/env bash
# Builds the static binary on this machine and puts it where the `prebuilt` image takes it from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-target}
RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile dist --locked --target "$host" --bin liminal
mkdir -p cluster/bin
cp "$target_dir/$host/dist/liminal" cluster/bin/liminal
echo "cluster/bin/liminal: $(($(stat -c %s cluster/bin/liminal) >> 20)) MiB"
