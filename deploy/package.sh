#!/usr/bin/env bash
# Makes everything that is handed out, from this checkout, in one directory:
#
#   deploy/package.sh [--binary FILE] [--out DIRECTORY] [--quick]
#
# A tarball, a Debian package, a container image for `docker load`, a bill of materials (CycloneDX) and SHA256SUMS.
#
#   --binary  the static binary to pack; without it cluster/image.sh builds one, which takes minutes
#   --out     where to put them (target/package)
#   --quick   for tests: takes a binary of any build and strips it, compresses less, and makes no image of one that is not static
#
# The same binary, sources and SOURCE_DATE_EPOCH (the time of the last commit unless it is set) give the same bytes, with the same
# versions of tar, gzip and dpkg.
# Needs cargo, dpkg-deb and Python 3.11; neither root nor a container daemon.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    printf 'deploy/package.sh: %s\n' "$@" >&2
    exit 1
}

binary='' out='' quick=''
while (($#)); do
    case $1 in
        --binary) binary=$(realpath -- "${2:?--binary needs a file}") && shift 2 ;;
        --out) out=${2:?--out needs a directory} && shift 2 ;;
        --quick) quick=yes && shift ;;
        *) fail "there is no option $1; see the head of this file" ;;
    esac
done
mkdir -p -- "${out:=$root/target/package}"
out=$(realpath -- "$out")
if [[ -z $binary ]]; then
    "$root/cluster/image.sh"
    binary=$root/cluster/bin/liminal
fi
[[ -x $binary ]] || fail "$binary is not there, or cannot be run"

umask 022
export LC_ALL=C TZ=UTC
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || true)}
[[ -n $SOURCE_DATE_EPOCH ]] || fail 'this is no git checkout: set SOURCE_DATE_EPOCH to the seconds of the version'"'"'s time'
export SOURCE_DATE_EPOCH

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
said=$("$binary" --version)
[[ $said == "liminal $version" ]] || fail "the binary says \`$said\`, and Cargo.toml version $version: build it from this checkout"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/bin"
cp -- "$binary" "$work/bin/liminal"
chmod 755 "$work/bin/liminal"
# Neither a context nor a variable of whoever runs this may change what the binary writes.
liminal() { env -i HOME="$work/home" PATH=/usr/bin:/bin "$binary" "$@"; }

read -r machine architecture linkage < <(python3 "$root/deploy/elf.py" "$binary") || fail "$binary is no program for Linux that this can pack"
depends=''
if [[ $linkage != static ]]; then
    [[ -n $quick ]] || fail "$binary needs libraries of the system: take one that cluster/image.sh has built"
    depends=', libc6'
fi
[[ -z $quick ]] || strip "$work/bin/liminal"
level=9
[[ -z $quick ]] || level=1
name=liminal-$version-$machine-linux

# Sorted, without owners and times of this machine.
pack() { # DIRECTORY, file
    tar -C "$(dirname "$1")" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        -cf - "$(basename "$1")" | gzip -n -"$level" >"$2"
}

install_files() { # from, to, mode
    mkdir -p -- "$(dirname "$2")"
    install -m "${3:-644}" -- "$1" "$2"
}

echo "== $name"
python3 "$root/deploy/sbom.py" --binary "$work/bin/liminal" --target "$machine-unknown-linux-gnu" >"$out/$name.cdx.json"

liminal man "$work/man" >/dev/null
mkdir "$work/completions"
liminal completions bash >"$work/completions/liminal.bash"
liminal completions zsh >"$work/completions/_liminal"
liminal completions fish >"$work/completions/liminal.fish"

tree=$work/$name
install_files "$work/bin/liminal" "$tree/bin/liminal" 755
for page in "$work"/man/*.1; do install_files "$page" "$tree/share/man/man1/$(basename "$page")"; done
install_files "$work/completions/liminal.bash" "$tree/share/bash-completion/completions/liminal"
install_files "$work/completions/_liminal" "$tree/share/zsh/site-functions/_liminal"
install_files "$work/completions/liminal.fish" "$tree/share/fish/vendor_completions.d/liminal.fish"
install_files "$root/deploy/systemd/liminal.service" "$tree/systemd/liminal.service"
install_files "$root/deploy/debian/liminal.toml" "$tree/liminal.toml"
for file in LICENSE README.md CHANGELOG.md; do install_files "$root/$file" "$tree/$file"; done
install_files "$out/$name.cdx.json" "$tree/liminal.cdx.json"
pack "$tree" "$out/$name.tar.gz"

# What sorts behind a version with `-` in Cargo sorts before it with `~` in Debian: a release candidate.
debian_version=${version/-/\~}
tree=$work/deb
install_files "$work/bin/liminal" "$tree/usr/bin/liminal" 755
for page in "$work"/man/*.1; do
    install_files "$page" "$tree/usr/share/man/man1/$(basename "$page")"
    gzip -9n "$tree/usr/share/man/man1/$(basename "$page")"
done
install_files "$work/completions/liminal.bash" "$tree/usr/share/bash-completion/completions/liminal"
install_files "$work/completions/_liminal" "$tree/usr/share/zsh/vendor-completions/_liminal"
install_files "$work/completions/liminal.fish" "$tree/usr/share/fish/vendor_completions.d/liminal.fish"
install_files "$root/deploy/systemd/liminal.service" "$tree/lib/systemd/system/liminal.service"
install_files "$root/deploy/debian/liminal.toml" "$tree/etc/liminal/liminal.toml"
install_files "$root/deploy/debian/copyright" "$tree/usr/share/doc/liminal/copyright"
install_files "$root/CHANGELOG.md" "$tree/usr/share/doc/liminal/CHANGELOG.md"
gzip -9n "$tree/usr/share/doc/liminal/CHANGELOG.md"
# Debian's tools read a changelog of their own form.
maintainer=$(sed -n 's/^Maintainer: //p' "$root/deploy/debian/control")
printf 'liminal (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' \
    "$debian_version" "$maintainer" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" >"$work/changelog"
install_files "$work/changelog" "$tree/usr/share/doc/liminal/changelog"
gzip -9n "$tree/usr/share/doc/liminal/changelog"
install_files "$out/$name.cdx.json" "$tree/usr/share/doc/liminal/liminal.cdx.json"
size=$(du -sk --apparent-size "$tree" | cut -f1)
(cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$work/md5sums"
install_files "$work/md5sums" "$tree/DEBIAN/md5sums"
sed "s/@VERSION@/$debian_version/; s/@ARCHITECTURE@/$architecture/; s/@DEPENDS@/$depends/; s/@SIZE@/$size/" \
    "$root/deploy/debian/control" >"$work/control"
install_files "$work/control" "$tree/DEBIAN/control"
echo /etc/liminal/liminal.toml >"$work/conffiles"
install_files "$work/conffiles" "$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do install_files "$root/deploy/debian/$script" "$tree/DEBIAN/$script" 755; done
# dpkg-deb takes times that are later than SOURCE_DATE_EPOCH down to it.
find "$tree" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zgzip -z"$level" --build "$tree" "$out/liminal_${debian_version}_$architecture.deb" >/dev/null

files=("$name.cdx.json" "$name.tar.gz" "liminal_${debian_version}_$architecture.deb")
if [[ $linkage == static ]]; then
    python3 "$root/deploy/image.py" --binary "$work/bin/liminal" --version "$version" --architecture "$architecture" |
        gzip -n -"$level" >"$out/$name-image.tar.gz"
    files+=("$name-image.tar.gz")
else
    rm -f -- "$out/$name-image.tar.gz"
    echo 'no image: the binary needs libraries of the system'
fi
(cd "$out" && sha256sum -- "${files[@]}" >SHA256SUMS && ls -l --time-style=+ "${files[@]}" SHA256SUMS | awk '{ print $5, $6 }')
