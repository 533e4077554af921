#!/usr/bin/env bash
# Tests what deploy/package.sh makes of a binary:
#
#   deploy/test.sh --binary FILE [--quick]
#
# With --quick: manifests, unit, packages, sums and bill of materials, in a minute or two, without containers. Otherwise also
# the Debian package under systemd, the image, and three containers that run as the manifests for Kubernetes say. That needs
# Docker, and debootstrap where the image `liminal-test:debian` is not there yet.
# Exit code 69: what checks it cannot be installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick='' binary=''
while (($#)); do
    case $1 in
        --binary) binary=$(realpath -- "${2:?--binary needs a file}") && shift 2 ;;
        --quick) quick=yes && shift ;;
        *) echo "deploy/test.sh: there is no option $1; see the head of this file" >&2 && exit 1 ;;
    esac
done
if [[ ! -x $binary ]]; then
    echo 'deploy/test.sh: --binary names no program: cluster/image.sh builds cluster/bin/liminal' >&2
    exit 1
fi

venv="${XDG_CACHE_HOME:-$HOME/.cache}/liminal/deploy"
if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement deploy/requirements.txt; }; then
    echo 'deploy/test.sh: the packages of deploy/requirements.txt cannot be installed here: nothing was checked' >&2
    exit 69
fi

# A Debian with systemd, of which each test makes a container of its own.
if [[ -z $quick ]] && ! docker image inspect liminal-test:debian >/dev/null 2>&1; then
    rootfs=$(mktemp -d)
    trap 'rm -rf -- "$rootfs"' EXIT
    debootstrap --variant=minbase --include=adduser,systemd,systemd-sysv,dbus bookworm "$rootfs" >"$rootfs.log" 2>&1 ||
        { tail -5 "$rootfs.log" >&2 && exit 1; }
    tar -C "$rootfs" -c . | docker import - liminal-test:debian >/dev/null
fi

export LIMINAL_BINARY=$binary
selected=()
[[ -z $quick ]] || selected=(-m 'not containers')
exec "$venv/bin/pytest" -q -p no:cacheprovider -c deploy/tests/pytest.ini "${selected[@]}" deploy/tests
