#!/usr/bin/env bash
# The fault matrix: three or five `liminal serve` processes on this machine under a mixed load, one fault at a time, and a
# checker over all that clients did and saw. Ends with a table for docs/RELIABILITY.md, and with an exit code other than 0
# when a row failed; the evidence of such a row is kept in target/tmp/faults.
#
#   cluster/faults.sh [PART,PART...]     only rows whose name contains one of these: cluster/faults.sh SIGKILL,clock
#
# ROUNDS (1 unless set) says how often each row runs. Linux, and a C compiler for the faults of clocks and disks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export LIMINAL_FAULTS=${1:-}
export LIMINAL_FAULTS_ROUNDS=${ROUNDS:-1}
exec cargo test --locked --test faults -- --ignored --exact --nocapture the_whole_matrix
