#!/bin/bash
# Installs the Debian package on a bare Debian, and uses what is in it as its documentation says: the program, the
# manual, completions, units; a first restore.toml, a backup, a drill, a restore.
#
#   scripts/package-test.sh PROGRAM [STATIC]
#
# PROGRAM is a `restore` of this version, as cargo built it. STATIC is one that needs no shared library, as `make package`
# builds it in target/TARGET/release: it is tried where there is nothing else at all.
#
# The Debian is that of the example swarm's images, made once: see examples/hosting-platform/images.sh. Says of
# each step how many seconds it took.
set -euo pipefail
repository=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd -P)
program=$(realpath -e -- "${1:?a program, as cargo built it}")
static=none
[ $# -lt 2 ] || static=$(realpath -e -- "$2")
export PATH="$PATH:/usr/sbin:/sbin"

# In namespaces of its own: what is mounted and started here ends with it.
if [ -z "${RESTORE_TEST_NETWORK:-}" ]; then
  "$repository/examples/hosting-platform/images.sh"
  exec "$repository/scripts/test-runner" "$0" "$program" ${2:+"$static"}
fi

fail() {
  printf 'package-test: FAILED: %s\n' "$*" >&2
  exit 1
}

# step NAME COMMAND…: runs it; its seconds, or what it said and the end.
step() {
  local name=$1 begun=$EPOCHREALTIME code
  shift
  # In a shell of its own, in which each command must succeed.
  set +e
  (
    set -e
    "$@"
  ) >"$work/said" 2>&1
  code=$?
  set -e
  [ "$code" -eq 0 ] || {
    cat "$work/said" >&2
    fail "$name (exit code $code)"
  }
  awk -v a="$begun" -v b="$EPOCHREALTIME" -v name="$name" 'BEGIN { printf "%6.1f s  %s\n", b - a, name }'
}

# --- a bare Debian -----------------------------------------------------------------------------

# Servers run as users of their own, who must get in.
work=$(mktemp -d /var/tmp/package-test.XXXXXXXX)
chmod 755 "$work"
root=$work/root
clean_up() {
  if [ -e "$root/srv/site/.local-platform" ]; then inside "$platform" -d /srv/site destroy || true; fi
  umount "$root/proc" "$root/dev" "$root$repository" 2>/dev/null || true
  rm -rf --one-file-system -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

inside() {
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    chroot "$root" "$@"
}
restore() { inside restore "$@"; }

bare() {
  mkdir "$root"
  "$repository/examples/hosting-platform/images.sh" tree restore-example/postgres:15 "$root" prometheus promtool
  # The image leaves out what the package brings.
  rm -f "$root/etc/dpkg/dpkg.cfg.d/small"
  mkdir -p "$root/proc" "$root/dev" "$root$repository"
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  mount --bind "$repository" "$root$repository"
  mount -o remount,bind,ro "$root$repository"
}

# --- what is tried -----------------------------------------------------------------------------

package() {
  "$repository/scripts/package.sh" --binary "$program" --static "$static" --fast --out "$work/out"
  local made=("$work"/out/*.deb)
  cp "${made[0]}" "$root/package.deb"
  [ "$(dpkg-deb -f "$root/package.deb" Conflicts)" = dump ] || fail "it does not conflict with dump"
  tar -tzf "$work"/out/*.tar.gz >"$work/list"
  for made in bin/restore share/man/man1/restore.1.gz share/zsh/site-functions/_restore lib/systemd/system/restore-drill@.timer; do
    grep -q "^restore_[^/]*/$made\$" "$work/list" || fail "the tarball has no $made"
  done
}

# As docs/how-to/install.md has it, before the package is there.
tarball() {
  local made=("$work"/out/*.tar.gz)
  mkdir "$work/unpacked"
  tar -xzf "${made[0]}" -C "$work/unpacked" --strip-components 1
  cp -r "$work/unpacked/." "$root/usr/local/"
  version
  inside sh -euc 'case $(command -v restore) in /usr/local/bin/restore) ;; *) exit 1 ;; esac'
  grep -q '^ExecStart=/usr/local/bin/restore ' "$root/usr/local/lib/systemd/system/restore-drill@.service"
  (cd "$work/unpacked" && find . ! -type d -print0) | (cd "$root/usr/local" && xargs -0 rm)
}

# No library, no shell, no /etc, no /proc: what it does there, it does on any machine of this kind.
empty() {
  local there=$work/empty
  mkdir "$there"
  cp "$work/unpacked/bin/restore" "$there/restore"
  local alone=(env -i chroot "$there" /restore)
  "${alone[@]}" --version
  "${alone[@]}" help stuck | grep -q .
  "${alone[@]}" config schema | cmp - "$repository/docs/restore.schema.json"
}

install_it() {
  inside dpkg --force-unsafe-io -i /package.deb
  [ "$(stat -c %a "$root/etc/restore")" = 700 ] || fail "/etc/restore is open"
  [ -z "$(find "$root/etc/systemd" -name 'restore-*')" ] || fail "a unit is enabled"
}

version() { [[ "$(restore --version)" = restore\ [0-9]* ]]; }

# Each page is rendered with all warnings on, and says nothing.
manual() {
  local page count=0
  while IFS= read -r page; do
    zcat "$page" | groff -ww -man -Tutf8 -z 2>"$work/warnings"
    [ ! -s "$work/warnings" ] || fail "${page##*/}: $(head -n 3 "$work/warnings")"
    count=$((count + 1))
  done < <(find "$root/usr/share/man" -name 'restore*.gz')
  [ "$count" -gt 25 ] || fail "$count pages"
  for page in man1/restore.1 man1/restore-run.1 man5/restore.toml.5 man7/restore-topics.7; do
    MANWIDTH=80 man --warnings -l "$root/usr/share/man/$page.gz" >"$work/page" 2>"$work/warnings"
    [ ! -s "$work/warnings" ] || fail "man -l $page: $(head -n 3 "$work/warnings")"
    grep -q . "$work/page" || fail "man -l $page is empty"
  done
}

# shellcheck disable=SC2016 # the inner shell's
completions() {
  inside bash -euc '. /usr/share/bash-completion/completions/restore && complete -p restore'
  grep -q '^#compdef restore' "$root/usr/share/zsh/vendor-completions/_restore"
  grep -q RESTORE_COMPLETE "$root/usr/share/fish/vendor_completions.d/restore.fish"
}

units() {
  local unit name
  for unit in "$root"/usr/lib/systemd/system/restore-*@.*; do
    name=$(basename "$unit")
    # With the program that it starts, an instance is all that there is to it.
    mkdir -p "$work/units"
    sed "s#/usr/bin/restore #$root/usr/bin/restore #" "$unit" >"$work/units/${name/@./@restore.}"
  done
  systemd-analyze verify --man=no "$work"/units/* 2>&1 | tee "$work/warnings"
  [ ! -s "$work/warnings" ]
}

documents() {
  local topic
  restore help | grep -q exit-codes
  for topic in exit-codes stuck from-nothing; do restore help "$topic" | grep -q . || return; done
  restore config schema | cmp - "$root/usr/share/restore/restore.schema.json"
  [ -s "$root/usr/share/doc/restore/docs/at-3-am.md" ] && [ -s "$root/usr/share/doc/restore/copyright" ]
}

platform=$repository/examples/local-platform/platform
damage() { inside "$repository/examples/local-platform/damage.sh" -d /srv/site; }
fingerprint() { inside "$platform" -d /srv/site fingerprint >"$work/$1"; }

first_configuration() {
  restore init --below /srv/site --backups /srv/site/backups --output /etc/restore/restore.toml
  restore config check
  grep -q 'is sound' "$work/said"
}

# What the unit does, word for word but for its options.
by_unit() { # backup | drill | prune
  local line
  line=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/restore-$1@.service")
  line=${line//%i/restore}
  line=${line/\$PRUNE_OPTIONS/--keep 2}
  # shellcheck disable=SC2086 # the words of a unit
  inside ${line/\$*_OPTIONS/}
}

brought_back() {
  restore run latest --yes
  fingerprint restored
  "$repository/examples/local-platform/fingerprint.py" --compare "$work/at-backup" "$work/restored"
}

removed() {
  inside dpkg --force-unsafe-io -r restore
  [ ! -e "$root/usr/bin/restore" ] || fail "the program is still there"
  [ -e "$root/etc/restore/restore.toml" ] || fail "the configuration is gone"
}

step "a bare Debian" bare
step "the package is built" package
step "the tarball" tarball
[ "$static" = none ] || step "the program of the tarball, where there is nothing else" empty
step "dpkg -i" install_it
step "restore --version" version
step "every page of the manual renders without a warning" manual
step "completions" completions
step "units" units
step "documentation" documents
step "a platform, and a backup of it by plain commands" \
  inside bash -euc "$platform -d /srv/site create --rows 100 --volume-mb 1 && ${platform%/*}/backup.sh -d /srv/site"
step "restore init, restore config check" first_configuration
step "restore backup, as its unit does it" by_unit backup
step "what the platform holds" fingerprint at-backup
step "restore drill latest, as its unit does it" by_unit drill
step "everything is damaged" damage
step "restore run latest: all of it is as it was" brought_back
step "restore confirm" restore confirm --yes
step "restore prune, as its unit does it" by_unit prune
step "dpkg -r" removed
printf '%6.1f s  in all\n' "$SECONDS"
echo "package-test: passed"
