#!/usr/bin/env bash
# The siege: three `liminal serve` processes of 512 MiB each on this machine, one attack at a time, beside a well-behaved client.
# Ends with a table for docs/SECURITY.md, and with an exit code other than 0 when an attack did harm.
#
#   cluster/siege.sh [PART,PART...]      only attacks whose name contains one of these: cluster/siege.sh schema,rules
#
# LIMINAL names the binary (target/dist/liminal); a build that is not optimised says nothing about times.
# Linux, and a user who may make control groups (root, mostly).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export LIMINAL_SIEGE=${1:-}
LIMINAL_TEST_BINARY=$(realpath "${LIMINAL:-target/dist/liminal}")
export LIMINAL_TEST_BINARY
ulimit -n "$(ulimit -Hn)"
exec cargo test --locked --test siege -- --ignored --exact --nocapture the_whole_siege
