#!/bin/bash
# Backs a small machine up with each of the scripts here, and restores it: test.sh [RESTORE].
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
restore=${1:-$here/../../target/debug/restore}
[ -x "$restore" ] || die "no program at $restore: cargo build -p restore-cli"
restore=$(readlink -f "$restore")
[ "$(id -u)" -eq 0 ] || exec sudo -- "$(readlink -f "$0")" "$restore"

work=$(mktemp -d)
chmod 755 "$work"
root=$work/machine
clean_up() {
  # By its path: the machine's own systemctl would stop the machine's own server.
  if [ -x "$root/bin/systemctl" ]; then "$root/bin/systemctl" stop postgresql 2>/dev/null || true; fi
  rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
mkdir -m 755 "$root"
programs
machine

# What is written for a machine, in the folder that stands for one.
here_below() {
  sed -E "s#(^|[ \"'>=(])/(var|srv|backup|mnt|run|home)([/\" ]|\$)#\1$root/\2\3#g" "$1"
}

content >"$work/good"
for folder in "$here"/*/; do
  tool=$(basename "$folder")
  [ "$(wc -l <"$folder/restore.toml")" -le 30 ] || die "$tool: restore.toml has more than 30 lines"
  here_below "$folder/restore.toml" >"$work/restore.toml"
  here_below "$folder/backup.sh" >"$work/backup.sh"
  run() { "$restore" --config "$work/restore.toml" "$@" >"$work/out" 2>&1 || die "$tool: restore $*: $(cat "$work/out")"; }
  wanted() {
    # Each restores what it has: all of the machine, or its database, or one of its trees.
    case $tool in
      pg-dumpall) sed -n 1p "$1" ;;
      docker-volume-backup) sed 1d "$1" | grep -v ' home\|^home' ;;
      cpanel) sed 1d "$1" | grep -v ' srv\|^srv' ;;
      *) grep -v ' home\|^home' "$1" ;;
    esac
  }
  bash "$work/backup.sh"
  run config check
  run list
  run show latest --files
  run verify latest --deep
  damage
  content >"$work/damaged"
  if wanted "$work/good" | cmp -s - <(wanted "$work/damaged"); then die "$tool: nothing was damaged"; fi
  words=(--yes)
  if [ "$tool" = sha256sums ]; then
    printf 'more' >>"$root/srv/uploads/since"
  else
    words+=(--allow-unverified)
    if "$restore" --config "$work/restore.toml" run latest --yes >"$work/out" 2>&1; then
      die "$tool: restored without a word, though nothing verifies it"
    fi
  fi
  content >"$work/damaged"
  run run latest "${words[@]}"
  content >"$work/now"
  diff <(wanted "$work/good") <(wanted "$work/now") >&2 || die "$tool: it is not as it was backed up"
  run rollback --yes
  content >"$work/now"
  cmp "$work/damaged" "$work/now" || die "$tool: the rollback left something"
  run confirm --yes
  run run latest "${words[@]}"
  run confirm --yes
  # What that run replaced was backed up first, by names that the same restore.toml finds again.
  safety=$(find "$root"/{var/backups,backup,mnt/nas} -maxdepth 1 -name 'pre-restore-*' -printf '%f\n' | sort | tail -n 1)
  [ -n "$safety" ] || die "$tool: what was live was not backed up before the run"
  run run "$safety" --yes
  content >"$work/now"
  cmp "$work/damaged" "$work/now" || die "$tool: $safety does not restore what was live"
  run confirm --yes
  run run latest "${words[@]}"
  run confirm --yes
  # The rest, for the next one.
  psql -qd shop -c 'TRUNCATE orders' -c 'INSERT INTO orders SELECT i, i * 1.5 FROM generate_series(1, 500) i'
  rm -f "$root/srv/uploads/since"
  for tree in srv/uploads home/shop; do
    printf 'a photo\n' >"$root/$tree/2024/one.jpg"
    ln -sfn 2024/one.jpg "$root/$tree/newest"
  done
  content >"$work/now"
  cmp "$work/good" "$work/now" || die "$tool: the machine is not as it was in the beginning"
  rm -rf "${root:?}"/{var/backups,backup,mnt/nas,var/lib/restore}
  mkdir "$root"/{var/backups,backup,mnt/nas,var/lib/restore}
  printf '%s: restored, rolled back, restored again; also from the safety backup\n' "$tool"
done
