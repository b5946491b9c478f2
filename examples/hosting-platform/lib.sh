# What the scripts of this folder share; sourced by bash, never run.
# shellcheck shell=bash

here=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)
repository=$(cd "$here/../.." && pwd -P)
# shellcheck disable=SC2034 # read by the scripts that source this file
sibling=$repository/examples/local-platform
export PATH="$PATH:/usr/sbin:/sbin"
# Servers read what is made here as users of their own, whatever the caller keeps from others.
umask 022

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# An engine takes root. `become_root "$0" "$@"` starts the script anew with sudo where it was
# started by somebody else.
become_root() {
  [ "$EUID" -ne 0 ] || return 0
  command -v sudo >/dev/null || die "$1 needs root: run it as root, or install sudo"
  exec sudo --preserve-env=RESTORE_DEMO_DIR,RESTORE_SWARM_CACHE,RESTORE_TEST_NETWORK -- "$@"
}

# Waits up to SECONDS until the command succeeds: `wait_for 20 engine_answers`.
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

# Where the platform is when nobody names a folder: ./demo-swarm of the repository, or, where that is
# too long a path for an engine's sockets or has characters that they cannot have, below /srv.
default_root() {
  local dir=$repository/demo-swarm
  case ${#dir}:$dir in
    *:*[!A-Za-z0-9/._+@-]*) dir=/srv/restore-demo-swarm ;;
    [0-9]:* | [1-6][0-9]:*) ;;
    *) dir=/srv/restore-demo-swarm ;;
  esac
  printf '%s\n' "${RESTORE_DEMO_DIR:-$dir}"
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

# --- processes -------------------------------------------------------------------------------

# The folders that are this control group, one for each hierarchy, or the only one.
groups_of() {
  local top
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "/sys/fs/cgroup/$1"
  else
    for top in /sys/fs/cgroup/*/; do
      [ ! -e "${top}cgroup.procs" ] || echo "$top$1"
    done
  fi
}

# Processes of the group and of all groups below it: engine, containerd, shims, containers.
pids_of() {
  local group
  while read -r group; do
    [ -d "$group" ] || continue
    find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done < <(groups_of "$1") | sort -un
}

# --- the engine ------------------------------------------------------------------------------

# Whether this process is in the network that a test runner has made for it, without a way out, which
# an engine may use as if it were the machine's. The runner names the namespace.
private_network() {
  [ -n "${RESTORE_TEST_NETWORK:-}" ] && [ "$RESTORE_TEST_NETWORK" = "$(readlink /proc/self/ns/net)" ]
}

network=()
# Fills `network` with what a command has to be prefixed with to run in the network of the engine in
# $engine: nothing where it is this one, or where the engine has none at the moment.
find_network() {
  local number part pid found
  network=()
  # There everything is in one.
  ! private_network || return 0
  number=$(sed -n 's/^NUMBER=//p' "$engine/engine.env" 2>/dev/null) || return 0
  for part in network engine; do
    for pid in $(pids_of "restore-engine-$number/$part"); do
      # Others of the group are there for a moment only, or are on their way into a container.
      case $(readlink "/proc/$pid/exe") in
        */sleep* | */coreutils* | */dockerd* | */containerd*) ;;
        *) continue ;;
      esac
      found=$(readlink "/proc/$pid/ns/net") || continue
      [ "$found" != "$(readlink /proc/self/ns/net)" ] || return 0
      network=(nsenter "--net=/proc/$pid/ns/net")
      return 0
    done
  done
}

inside() { "${network[@]}" "$@"; }

# Points `docker` at the engine in the folder ENGINE, whatever the caller's own settings say.
use_engine() {
  engine=$1
  unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_API_VERSION
  export DOCKER_HOST=unix://$engine/docker.sock DOCKER_CONFIG=$engine/client
}

engine_answers() {
  docker version >/dev/null 2>&1
}

# --- the platform ----------------------------------------------------------------------------

# Ports and folders of the platform in $root, and `docker` pointed at its engine.
load_settings() {
  [ -f "$root/platform.env" ] ||
    die "$root holds no platform: create one with $here/platform -d $root create"
  # shellcheck disable=SC1091 # written by `platform create`
  . "$root/platform.env"
  use_engine "$ENGINE"
  # Clients take the password from their environment, never from an argument, which every user
  # of the machine could read.
  REDISCLI_AUTH=$(cat "$root/secrets/redis.pass")
  export REDISCLI_AUTH
}

load_platform() {
  load_settings
  engine_answers || die "the platform's engine does not run: start it with $here/platform -d $root start"
  find_network
}

# Runs a command with `docker` pointed at one node after the other; those that are away do not count.
on_each_node() {
  local socket
  for socket in "$engine/docker.sock" "$engine"/workers/*/docker.sock; do
    [ -S "$socket" ] || continue
    DOCKER_HOST=unix://$socket "$@" || return
  done
}

# What the platform publishes in its engine's network is made reachable on this machine's loopback.
forward() {
  local ports=("$HTTP_PORT" "$HTTP_ALT_PORT" "$PROMETHEUS_PORT")
  [ "$GRAFANA_HOST" != 127.0.0.1 ] || ports+=("$GRAFANA_PORT")
  [ -n "${CLOSED:-}" ] || ports+=("$PG_PORT" "$REDIS_PORT")
  "$here/engine" -d "$engine" forward "${ports[@]}"
}

# All running containers of a service, on all nodes, by the service's exact name.
containers() {
  on_each_node docker ps -q --no-trunc -f "label=com.docker.swarm.service.name=$1" 2>/dev/null
}

# The running container of a service on the manager, by the service's exact name.
container() {
  local id
  id=$(docker ps -q --no-trunc -f "label=com.docker.swarm.service.name=$1" | head -n 1)
  [ -n "$id" ] || {
    echo "no container of $1 runs" >&2
    return 1
  }
  echo "$id"
}

# Where clients in the engine's network reach the databases: at the published ports, or at the
# containers' own addresses where there are none.
load_addresses() {
  PG_HOST=127.0.0.1 REDIS_HOST=127.0.0.1
  if [ -n "${CLOSED:-}" ]; then
    PG_HOST=$(bridge_address hosting_postgres) PG_PORT=5432
    REDIS_HOST=$(bridge_address hosting_redis) REDIS_PORT=6379
  fi
  export PG_HOST PG_PORT REDIS_HOST REDIS_PORT
}

bridge_address() {
  local id
  id=$(container "$1") || return 0
  docker network inspect -f '{{range $id, $it := .Containers}}{{$id}} {{$it.IPv4Address}}{{"\n"}}{{end}}' docker_gwbridge |
    sed -n "s|^$id \(.*\)/.*|\1|p"
}

# psql in PostgreSQL's container, over its socket, which asks for no password.
psql_() {
  docker exec -i "$(container hosting_postgres)" psql -X -q -v ON_ERROR_STOP=1 -U hosting_user "$@"
}

pg_ready() {
  docker exec "$(container hosting_postgres)" pg_isready -q -h 127.0.0.1 -d postgres >/dev/null 2>&1
}

# The password goes by the environment of docker itself, by name.
redis_() {
  docker exec -i -e REDISCLI_AUTH "$(container hosting_redis)" redis-cli -e "$@"
}

redis_ready() { [ "$(redis_ ping 2>/dev/null)" = PONG ]; }

# Where a volume's content lies as this machine sees it, whichever node has it: by exact name.
volume_path() {
  local socket path
  if path=$(docker volume inspect -f '{{.Mountpoint}}' "$1" 2>/dev/null); then
    echo "$path"
    return
  fi
  for socket in "$engine"/workers/*/docker.sock; do
    [ -S "$socket" ] || continue
    DOCKER_HOST=unix://$socket docker volume inspect "$1" >/dev/null 2>&1 || continue
    echo "${socket%/docker.sock}/data/volumes/$1/_data"
    return
  done
  die "no node has a volume $1"
}

# The files of the layers that new engines share: all that a write would change.
kept_images() {
  find "${RESTORE_SWARM_CACHE:-$repository/target/hosting-platform}"/data-* -mindepth 1 \
    -printf '%p %y %m %U %G %s %T@ %l\n' | LC_ALL=C sort
}

# What a restore on a new engine takes, before the backups: the second database and the application's image are
# in them, the stack is deployed anew, and a hook makes the services that no stack's files describe.
# What no backup has is not there.
prepare_for_disaster() {
  load_platform
  sed -i -e 's/^redeploy = false$/redeploy = true/' \
    -e 's/^# advertise = /advertise = /' -e 's/^# listen = /listen = /' \
    -e 's/^# images = /images = /' "$root/restore.toml"
  cat >>"$root/restore.toml" <<TOML

[components.metrics]
kind = "postgres"
service = "hosting_postgres"
database = "metrics_db"
user = "hosting_user"
password_file = "$root/secrets/postgres.pass"
maintenance_database = "postgres"
stops = []
dump = ["postgres/metrics-{id}.dump"]
# The runbook's dump of all databases has it too.
sql = ["postgres/postgres-all-{id}.sql"]
globals = ["postgres/metrics-globals-{id}.sql", "postgres/postgres-globals-{id}.sql"]

# The image makes an empty database when its server first starts, which would keep its own settings and
# privileges: without it the dump's are restored.
[hooks.empty-database]
kind = "command"
when = ["after-start"]
service = "hosting_postgres"
command = ["sh", "-c", "[ \"\$(psql -X -At -U hosting_user -d hosting_db -c 'SELECT count(*) FROM pg_stat_user_tables' || echo none)\" != 0 ] || dropdb -f -U hosting_user --maintenance-db=postgres hosting_db"]

# Services that no stack's files describe, by the script that had made them.
[hooks.monitoring]
kind = "command"
when = ["after-start"]
command = ["env", "DOCKER_HOST=$DOCKER_HOST", "sh", "-c", "docker service inspect grafana prometheus >/dev/null 2>&1 || $root/opt/scripts/monitoring.sh"]
TOML
  rm -rf "$root"/opt/applications/hosting-app/{.git,node_modules,npm-debug.log}
  chmod 600 "$root/crontab"
}

# --- the machine -----------------------------------------------------------------------------

# What this machine's network is: links, addresses, routes, firewall. Without what changes by itself:
# counters, the time that is left of a lease, dates in comments.
machine_network() {
  local what
  for what in link addr route "-6 route" rule; do
    echo "== $what"
    # shellcheck disable=SC2086 # two words
    ip -o $what
  done | sed -E 's/ (valid_lft|preferred_lft|expires) [0-9a-z]+//g; s/ tentative( |$)/\1/'
  for what in iptables-save iptables-legacy-save ip6tables-save ip6tables-legacy-save; do
    echo "== $what"
    "$what" 2>/dev/null || true
  done | sed -E '/^#/d; s/\[[0-9]+:[0-9]+\]//'
  echo "== nft"
  { nft --stateless --terse list ruleset 2>/dev/null || true; } | sed -E 's/counter packets [0-9]+ bytes [0-9]+/counter/'
}
