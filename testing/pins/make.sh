#!/bin/bash
# make.sh CRASH RESTORE ARCHIVE: what a version of this program leaves on disk at several moments of a
# run, as an archive for tests/library/pins.rs: a later version must be able to finish it.
#
# CRASH and RESTORE are that version's programs: `cargo build -p restore-cli -p restore-core --examples`
# in a checkout of it. v0.1.tar.gz was made from 60d546e. In the archive each moment is a folder, and
# @ROOT@ stands for where that lies.
set -euo pipefail
umask 022
crash=$(realpath "$1") restore=$(realpath "$2") archive=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base=$work/base root=$work/root
mkdir -p "$base"/{srv/data,host/etc/app,var,backups}
cat >"$base/app.sh" <<'S'
#!/bin/sh
case $1 in
start) echo up >"@ROOT@/var/up" ;;
stop) rm -f "@ROOT@/var/up" ;;
status) [ -e "@ROOT@/var/up" ] ;;
esac
S
chmod 755 "$base/app.sh"
cat >"$base/restore.toml" <<'S'
[site]
name = "pins"
state = "@ROOT@/state"

[stores.main]
kind = "directory"
path = "@ROOT@/backups"

[platform]
kind = "local"

[services.app]
start = ["@ROOT@/app.sh", "start"]
stop = ["@ROOT@/app.sh", "stop"]
status = ["@ROOT@/app.sh", "status"]

[volumes.data]
path = "@ROOT@/srv/data"

[components.data]
kind = "volume"
volume = "data"
stops = ["app"]

[components.conf]
kind = "files"
root = "@ROOT@/host"
tree = "etc/app"
stops = ["app"]

[components.cron]
kind = "crontab"
file = "@ROOT@/var/jobs"

[checks.app]
kind = "command"
command = ["@ROOT@/app.sh", "status"]
S

state_is() { # WORD: all that is live says it
  echo "$1" >"$root/srv/data/rows"
  echo "$1" >"$root/host/etc/app/app.conf"
  echo "0 2 * * * $1" >"$root/var/jobs"
  chmod 600 "$root/var/jobs"
}

moment() { # NAME ACTION WHEN [ACTION WHEN]…
  local name=$1
  shift
  rm -rf "$root"
  cp -a "$base" "$root"
  sed -i "s|@ROOT@|$root|g" "$root/app.sh" "$root/restore.toml"
  "$root/app.sh" start
  state_is restored
  "$restore" --config "$root/restore.toml" backup >"$work/log" 2>&1
  state_is old
  while [ $# -gt 0 ]; do
    # It ends by a signal where it is told to die.
    "$crash" "$root/restore.toml" "$1" "$2" >"$work/log" 2>&1 || true
    shift 2
  done
  find "$root" -name reserve -size +64k -delete
  rm -f "$root/state/lock"
  grep -rlI "$root" "$root" | xargs -r sed -i "s|$root|@ROOT@|g"
  mv "$root" "$work/$name"
  moments+=("$name")
}

moments=()
moment staging run 6
moment stopped run 14
moment cutting run 16
moment one-swapped run 17
moment two-swapped run 20
moment started run 27
moment restored run never
moment rolling-back run never rollback 6
moment rolled-back run never rollback never
tar -C "$work" --numeric-owner --owner 0 --group 0 -czf "$archive" "${moments[@]}"
