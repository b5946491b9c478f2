# What the scripts of this folder share; sourced by bash, never run.
# shellcheck shell=bash

here=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)
repository=$(cd "$here/../.." && pwd -P)
# Servers read what is made here as users of their own, whatever the caller keeps from others.
umask 022

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# The servers run as users of their own, which takes root. `become_root "$0" "$@"` starts the
# script anew with sudo where it was started by somebody else.
become_root() {
  [ "$EUID" -ne 0 ] || return 0
  command -v sudo >/dev/null || die "$1 needs root: run it as root, or install sudo"
  exec sudo --preserve-env=RESTORE_DEMO_DIR -- "$@"
}

# Waits up to SECONDS until the command succeeds: `wait_for 20 pg_ready`.
wait_for() {
  local deadline=$((SECONDS + $1)) nap
  local -a naps=(0.02 0.05 0.1 0.2)
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    # Asking costs more than waiting where much is waited for at the same time.
    nap=${naps[0]}
    [ ${#naps[@]} -eq 1 ] || naps=("${naps[@]:1}")
    sleep "$nap"
  done
}

# Where the platform is when nobody names a folder: ./demo of the repository, or, where PostgreSQL's
# user cannot get there (a home directory is often closed to others), a folder below /srv.
default_root() {
  if [ -n "${RESTORE_DEMO_DIR:-}" ]; then
    printf '%s\n' "$RESTORE_DEMO_DIR"
  elif as_user postgres test -x "$repository"; then
    printf '%s\n' "$repository/demo"
  else
    printf '%s\n' /srv/restore-demo
  fi
}

as_user() {
  local user=$1
  shift
  setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"
}

# Reads `-d DIR` off the front of a script's arguments into $root; the rest is left in $rest.
# Leaves $root absolute and without links.
parse_root() {
  root=
  if [ "${1:-}" = -d ]; then
    [ -n "${2:-}" ] || die "-d needs a folder"
    root=$2
    shift 2
  fi
  [ -n "$root" ] || root=$(default_root)
  # One that is there without a program more: this is asked several times a second.
  local there
  there=$(CDPATH='' cd -P -- "$root" 2>/dev/null && pwd) || there=$(realpath -m -- "$root")
  root=$there
  # shellcheck disable=SC2034 # read by the scripts that source this file
  rest=("$@")
}

# Ports, version and programs of the platform in $root.
load_platform() {
  [ -f "$root/platform.env" ] ||
    die "$root holds no platform: create one with $here/platform -d $root create"
  # shellcheck disable=SC1091 # written by `platform create`
  . "$root/platform.env"
  pg_bin=$(pg_bin_dir)
  # Clients take the password from their environment, never from an argument, which every user
  # of the machine could read.
  export PGHOST=127.0.0.1 PGPORT=$PG_PORT PGUSER=$PG_USER PGCONNECT_TIMEOUT=5
  PGPASSWORD=$(<"$root/secrets/postgres.pass")
  REDISCLI_AUTH=$(<"$root/secrets/redis.pass")
  export PGPASSWORD REDISCLI_AUTH
}

# Of the newest major that is installed.
pg_bin_dir() {
  local each major newest=0
  for each in /usr/lib/postgresql/*/bin; do
    major=${each%/bin}
    major=${major##*/}
    [[ $major =~ ^[0-9]+$ ]] || continue
    [ "$major" -le "$newest" ] || newest=$major
  done
  [ -x "/usr/lib/postgresql/$newest/bin/postgres" ] || die "no PostgreSQL server: run $repository/scripts/setup.sh"
  printf '%s\n' "/usr/lib/postgresql/$newest/bin"
}

psql_() {
  "$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}

redis_() {
  redis-cli -e -h 127.0.0.1 -p "$REDIS_PORT" "$@"
}

# Leaves nothing in the platform that no backup holds: the second database becomes a component, and
# what backups of the application leave out goes, as does what makes the crontab readable to others.
prepare_for_disaster() {
  cat >>"$root/restore.toml" <<TOML

[components.metrics]
kind = "postgres"
service = "postgres"
database = "metrics_db"
user = "hosting_user"
password_file = "$root/secrets/postgres.pass"
maintenance_database = "postgres"
stops = []
dump = ["postgres/metrics-{id}.dump"]
# The runbook's dump of all databases has it too.
sql = ["postgres/postgres-all-{id}.sql"]
globals = ["postgres/metrics-globals-{id}.sql", "postgres/postgres-globals-{id}.sql"]
TOML
  rm -rf "$root"/opt/applications/hosting-app/{.git,node_modules,npm-debug.log}
  chmod 600 "$root/crontab"
}
