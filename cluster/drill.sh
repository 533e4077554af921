#!/usr/bin/env bash
# The failover drill: builds the image, starts it as containers on a network of their own, and lets everything happen to
# them that happens to a cluster. Ends with a table of gaps and `lost 0, duplicated 0`, or with an exit code.
#
#   cluster/drill.sh [FILE.ndjson]     FILE: messages to publish; generated ones if there is none
#
# Takes the gRPC ports 7101 to 7107 and the HTTP ports 7201 to 7207 of this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! docker version >/dev/null 2>&1; then
    echo 'the drill needs a running Docker daemon (`docker version` fails), and this machine has none' >&2
    exit 1
fi
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif docker-compose version >/dev/null 2>&1; then
    compose=(docker-compose)
else
    echo 'the drill needs Docker Compose (`docker compose` or `docker-compose`), and this machine has neither' >&2
    exit 1
fi
if [[ ${LIMINAL_IMAGE:-image} == prebuilt ]]; then
    cluster/image.sh
fi
"${compose[@]}" -p liminal-drill build
if [[ $# -gt 0 ]]; then
    LIMINAL_DRILL_MESSAGES=$(realpath "$1")
    export LIMINAL_DRILL_MESSAGES
fi
exec cargo test --locked --test drill -- --ignored --nocapture
