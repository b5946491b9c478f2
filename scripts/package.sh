#!/bin/bash
# Makes what is installed elsewhere: a Debian package, and a tarball with the same files for /usr/local.
#
#   scripts/package.sh [--binary PATH] [--static PATH] [--fast] [--out FOLDER]
#
#   --binary PATH   take this program instead of building one in release mode
#   --static PATH   take this one for the tarball; `none` leaves the tarball with the program of the package
#   --fast          compress little: for tests
#   --out FOLDER    where to; target/package where nothing else is said
#
# The program for the tarball is linked without shared libraries where that works here, so that it also runs
# on machines with another C library, or an older one. docs/how-to/install.md says what it cannot do.
# No tool is needed but cargo, dpkg-deb, and binutils.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"
umask 022

die() {
  printf 'package: %s\n' "$*" >&2
  exit 1
}

target=${CARGO_TARGET_DIR:-target}
binary='' static='' out=$target/package
compression=(-Zxz) level=-9
while [ $# -gt 0 ]; do
  case $1 in
    --binary) binary=${2:?--binary needs a path} && shift ;;
    --static) static=${2:?--static needs a path, or none} && shift ;;
    --out) out=${2:?--out needs a folder} && shift ;;
    --fast) compression=(-Zgzip -z1) level=-1 ;;
    *)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
      exit 2
      ;;
  esac
  shift
done
command -v dpkg-deb >/dev/null || die "dpkg-deb is missing: this machine has no dpkg"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
arch=$(dpkg --print-architecture)

# --- the programs ------------------------------------------------------------------------------

# Sets `static` to a program that needs no shared library, or to `none`. The target is named so that what runs
# while building, macros and build scripts, is linked as always.
build_static() {
  local host
  host=$(rustc -vV | sed -n 's/^host: //p')
  static=$target/$host/release/restore
  if ! RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked -p restore-cli --target "$host"; then
    echo "package: no static program can be linked here; the tarball gets that of the package" >&2
    static=none
  fi
}

if [ -z "$binary" ]; then
  cargo build --release --locked -p restore-cli
  binary=$target/release/restore
  [ -n "$static" ] || build_static
fi
[ -x "$binary" ] || die "$binary is no program"
[ "$("$binary" --version)" = "restore $version" ] || die "$binary is not restore $version"
[ -n "$static" ] || static=none
if [ "$static" != none ]; then
  headers=$(objdump -p "$static") || die "objdump cannot read $static: binutils are needed"
  ! grep -qE 'NEEDED|INTERP' <<<"$headers" || die "$static needs shared libraries"
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM
root=$work/root
documents=$root/usr/share/doc/restore

# --- the files ---------------------------------------------------------------------------------

install -d "$root/usr/bin" "$documents" "$root/usr/share/restore" "$root/usr/lib/systemd/system"
strip -o "$root/usr/bin/restore" "$binary"
chmod 755 "$root/usr/bin/restore"
"$binary" manual "$root/usr/share" >/dev/null
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
find "$root/usr/share/man" -type f -exec gzip "$level" -n {} +
install -m 644 packaging/systemd/* "$root/usr/lib/systemd/system/"
install -m 644 docs/restore.schema.json "$root/usr/share/restore/"
install -m 644 README.md SECURITY.md LICENSE-MIT LICENSE-APACHE "$documents/"
gzip "$level" -n <CHANGELOG.md >"$documents/changelog.gz"
# Pages refer to each other, and to complete sites.
for folder in docs docs/help docs/how-to; do
  install -d "$documents/$folder"
  install -m 644 "$folder"/*.md "$documents/$folder/"
done
for folder in examples/other-tools/*/ examples/*-platform/; do
  for file in "$folder"restore.toml*; do
    [ ! -f "$file" ] || install -D -m 644 "$file" "$documents/$file"
  done
done
install -m 644 examples/other-tools/README.md "$documents/examples/other-tools/"
cat >"$documents/copyright" <<TEXT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: restore

Files: *
$(sed -n 's/^Copyright (c) /Copyright: /p' LICENSE-MIT)
License: Expat or Apache-2.0

License: Expat
$(sed -n '/^Permission/,$p' LICENSE-MIT | sed 's/^$/./; s/^/ /')

License: Apache-2.0
 The text is in /usr/share/common-licenses/Apache-2.0, and beside this file in LICENSE-APACHE.
TEXT
# Passwords and addresses are below it.
install -d -m 700 "$root/etc/restore"

# --- the tarball -------------------------------------------------------------------------------

# The same files and times give the same packages.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
mkdir -p "$out"
name=restore_${version}_$arch
tree=$work/$name
# For /usr/local, where units find the program too.
cp -a "$root/usr" "$tree"
sed -i 's#/usr/bin/restore#/usr/local/bin/restore#' "$tree"/lib/systemd/system/*
mv "$tree/share/zsh/vendor-completions" "$tree/share/zsh/site-functions"
[ "$static" = none ] || strip -o "$tree/bin/restore" "$static"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work" -cf - "$name" |
  gzip "$level" -n >"$work/$name.tar.gz"

# --- the package -------------------------------------------------------------------------------

# The oldest C library that has all that the program takes from it; none where it has its own.
needs() { objdump -p "$root/usr/bin/restore" | grep -q "NEEDED *$1"; }
libc=$(objdump -T "$root/usr/bin/restore" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1 || true)
libraries=()
! needs libc.so || libraries+=("libc6${libc:+ (>= $libc)}")
! needs libgcc_s || libraries+=(libgcc-s1)
depends=$(printf ', %s' "${libraries[@]}")

install -d "$root/DEBIAN"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<TEXT
Package: restore
Version: $version
Architecture: $arch
Maintainer: ${DEBFULLNAME:-The restore contributors} <${DEBEMAIL:-restore@localhost}>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Depends: ${depends#, }
Recommends: ca-certificates, gnupg, openssh-client
Suggests: postgresql-client, redis-server
Conflicts: dump
Section: admin
Priority: optional
Description: brings a hosting platform back from a backup, all or nothing
 Restores PostgreSQL, Redis, volumes, configuration trees, application code,
 images and crontabs from plain backups: staged beside the live data, swapped by
 rename, checked, and undone where anything fails. What was replaced is kept
 until it is confirmed. On one host, on Docker Compose, on a Docker Swarm.
 .
 It conflicts with the package dump, whose /usr/sbin/restore would be found
 first in root's PATH, and takes the letters of a command for options.
TEXT
sed -i '/^Depends: *$/d' "$root/DEBIAN/control"
# New units are known at once; none is enabled.
for script in postinst postrm; do
  cat >"$root/DEBIAN/$script" <<'TEXT'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload >/dev/null || true
fi
TEXT
  chmod 755 "$root/DEBIAN/$script"
done
find "$root" -depth -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group "${compression[@]}" --build "$root" "$work/$name.deb" >/dev/null

mv "$work/$name.deb" "$work/$name.tar.gz" "$out/"
printf '%s\n' "$out/$name.deb" "$out/$name.tar.gz"
