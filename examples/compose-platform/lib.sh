# What the scripts of this folder share; sourced by bash, never run. Engines, images and most of what a
# platform is are those of ../hosting-platform.
# shellcheck shell=bash

# shellcheck source=../hosting-platform/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../hosting-platform/lib.sh"
# shellcheck disable=SC2034 # read by the scripts that source this file
hosting=$here
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)

# The Compose projects, and the folder of each one's compose file below opt/docker-compose.
projects=(hosting monitoring)

# As ../hosting-platform has it, with a name of its own.
default_root() {
  local dir=$repository/demo-compose
  case ${#dir}:$dir in
    *:*[!A-Za-z0-9/._+@-]*) dir=/srv/restore-demo-compose ;;
    [0-9]:* | [1-6][0-9]:*) ;;
    *) dir=/srv/restore-demo-compose ;;
  esac
  printf '%s\n' "${RESTORE_DEMO_DIR:-$dir}"
}

# compose PROJECT ARGUMENTS…: Docker Compose, as docker's plugin or as the program that it was before.
compose() {
  local project=$1
  shift
  if [ -z "${composer:-}" ]; then
    composer="docker compose"
    docker compose version >/dev/null 2>&1 || composer=docker-compose
    command -v "${composer%% *}" >/dev/null ||
      die "this machine has no Docker Compose: run $repository/scripts/setup.sh engine"
  fi
  # shellcheck disable=SC2086 # one word or two
  $composer -p "$project" -f "$root/opt/docker-compose/$project/docker-compose.yml" "$@"
}

# All containers of a service, running or not, by Compose's labels: `containers_of app`.
containers_of() {
  docker ps -aq --no-trunc -f label=com.docker.compose.oneoff=False -f "label=com.docker.compose.service=$1"
}

# The running container of a service.
container() {
  local id
  id=$(docker ps -q --no-trunc -f label=com.docker.compose.oneoff=False -f "label=com.docker.compose.service=$1" | head -n 1)
  [ -n "$id" ] || {
    echo "no container of $1 runs" >&2
    return 1
  }
  echo "$id"
}

# psql in PostgreSQL's container, over its socket, which asks for no password.
psql_() {
  docker exec -i "$(container postgres)" psql -X -q -v ON_ERROR_STOP=1 -U hosting_user "$@"
}

pg_ready() {
  docker exec "$(container postgres)" pg_isready -q -h 127.0.0.1 -d postgres >/dev/null 2>&1
}

# The password goes by the environment of docker itself, by name.
redis_() {
  docker exec -i -e REDISCLI_AUTH "$(container redis)" redis-cli -e "$@"
}
