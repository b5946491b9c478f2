# What the backup scripts of both example platforms share; sourced by bash after a lib.sh, whose
# redis_, die and wait_for it uses.
# shellcheck shell=bash

# Has Redis write dump.rdb and waits for its end: for the counter of finished saves to move.
redis_save() {
  wait_for 60 redis_idle || die "Redis is busy saving for more than a minute"
  local before
  before=$(redis_field rdb_saves)
  redis_ BGSAVE >/dev/null
  wait_for 600 redis_saved "$before" || die "Redis did not finish its BGSAVE"
  [ "$(redis_field rdb_last_bgsave_status)" = ok ] || die "Redis could not save; see its log"
}

redis_field() {
  redis_ INFO persistence | tr -d '\r' | sed -n "s/^$1://p"
}

redis_idle() {
  [ "$(redis_field rdb_bgsave_in_progress)$(redis_field aof_rewrite_in_progress)" = 00 ]
}

redis_saved() {
  redis_idle && { [ "$(redis_field rdb_saves)" != "$1" ] || [ "$(redis_field rdb_last_bgsave_status)" != ok ]; }
}

# pack ARCHIVE TAR-ARGUMENTS… : tar czf, but a file that grows while it is read, as a log does, is
# no failure (tar exits 1 for it, and 2 for real errors).
pack() {
  local archive=$1 status=0
  shift
  tar --warning=no-file-changed -czf "$archive" "$@" || status=$?
  [ "$status" -le 1 ] || die "tar could not write $archive"
}

# The trees, the crontab and the application: back_up_trees ROOT DIR ID.
back_up_trees() {
  local root=$1 dir=$2 id=$3
  # Members are opt/…, mnt/…, as from /.
  pack "$dir/configs/docker-compose-$id.tar.gz" -C "$root" opt/docker-compose
  pack "$dir/configs/nginx-config-$id.tar.gz" -C "$root" mnt/nfs/nginx
  pack "$dir/configs/prometheus-config-$id.tar.gz" -C "$root" mnt/nfs/monitoring
  pack "$dir/configs/scripts-$id.tar.gz" -C "$root" opt/scripts
  cp "$root/crontab" "$dir/configs/crontab-$id.txt"
  # Files of the same name overwrite each other here; that is how the operators' script has it.
  find "$root/opt/docker-compose" -name '.env' -exec cp {} "$dir/configs/env-files/" \;
  # Members are hosting-app/…
  pack "$dir/app/applications-$id.tar.gz" --exclude=node_modules --exclude=.git --exclude='*.log' \
    -C "$root/opt/applications" hosting-app
  {
    date
    uname -a
    df -h "$root"
  } >"$dir/system-state-$id.txt"
  cat /proc/net/dev >"$dir/network-config-$id.txt"
}

# Generation A's manifest, which lists itself with the hash that it has while it is being written:
# write_manifest DIR ID.
write_manifest() (
  cd "$1"
  {
    echo "=== Backup Manifest ==="
    echo "Backup ID: $2"
    echo "Created: $(date)"
    echo "Created By: $(whoami)"
    echo "Backup Type: full"
    echo
    echo "=== File Checksums ==="
  } >MANIFEST.txt
  find . -type f | sort | while read -r file; do
    file=${file#./}
    echo "$file|$(du -h "$file" | cut -f1)|$(sha256sum "$file" | cut -d' ' -f1)" >>MANIFEST.txt
  done
  {
    echo
    echo "=== Summary ==="
    echo "Total Files: $(find . -type f | wc -l)"
    echo "Total Size: $(du -sh . | cut -f1)"
  } >>MANIFEST.txt
)

# Generation B's, which lists no file.
write_short_manifest() {
  cat >"$1/MANIFEST.txt" <<TEXT
Backup ID: $2
Created: $(date)
Type: automated
Total Size: $(du -sh "$1" | cut -f1)
Total Files: $(find "$1" -type f | wc -l)
TEXT
}
