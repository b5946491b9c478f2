#!/bin/bash
# Shows that the set-up, the demo's platforms and their engines are guests on a machine: that they work,
# and change nothing, beside what its owner runs there.
#
#   guest-test.sh                      the platforms of both kinds
#   guest-test.sh --demos PROGRAM      all demos, with this `restore`; takes some minutes
#
# The machine is one in namespaces: with a Docker engine as it comes, a container on its docker0, a
# counted firewall rule, and somebody listening on the ports of nginx, PostgreSQL and Redis. On it a user
# who is not root, with sudo, with `umask 077` and a clone in a path with a blank, sets up, makes both
# platforms, looks at their pages, and deletes them. All of it is gone when this script ends.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"

step() { printf 'guest-test: %3d s: %s\n' "$SECONDS" "$*"; }
fail() {
  printf 'guest-test: FAILED: %s\n' "$*" >&2
  exit 1
}

# --- outside of the machine ----------------------------------------------------------------------

outside() {
  program=$1
  work=$(mktemp -d /tmp/restore-guest.XXXXXX)
  cgroup=restore-guest-test-$$
  trap 'remove' EXIT
  trap 'exit 130' INT TERM
  chmod 755 "$work"
  RESTORE_SWARM_CACHE=${RESTORE_SWARM_CACHE:-$repository/target/hosting-platform}
  export RESTORE_SWARM_CACHE
  step "having the images"
  "$here/images.sh"
  unset RESTORE_TEST_NETWORK RESTORE_DEMO_DIR DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG
  # With its first process, which is this script again, all others of the machine end.
  unshare --net --mount --propagation private --uts --ipc --pid --fork --kill-child --mount-proc \
    "$(readlink -f "$0")" inside "$work" "$cgroup" "$SECONDS" "$program"
}

remove() {
  local group left
  while read -r group; do
    [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(groups_of "$cgroup")
  # An engine that the machine's end cut short.
  for left in "$work"/srv/restore-demo-{swarm,compose}; do
    if [ -d "$left" ]; then "$here/engine" -d "$left/engine" destroy || true; fi
  done
  rm -rf -- "$work"
}

# --- the machine and its owner ---------------------------------------------------------------------

own() { docker -H unix:///run/docker.sock "$@"; }
own_answers() { own version >/dev/null 2>&1; }
page_of() { curl -sS -m 5 "http://$1/"; }

a_container() { # NAME: its address on docker0
  own run -d --name "$1" owner/web httpd -f -p 80 -h /www >/dev/null
  own inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$1"
}

make_machine() {
  hostname owner
  ip link set lo up
  ip link add lan0 type veth peer name wire0
  ip addr add 192.0.2.10/24 dev lan0
  ip link set lan0 up
  ip link set wire0 up
  ip route add default via 192.0.2.1
  iptables -A INPUT -i lo -j ACCEPT
  ! command -v nft >/dev/null || {
    nft add table inet owner
    nft add chain inet owner input '{ type filter hook input priority 10 ; }'
    nft add rule inet owner input iif lo counter accept
  }
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/lock "$work/srv"
  mount --bind "$work/srv" /srv
  [ ! -d /etc/docker ] || mount -t tmpfs -o mode=755 tmpfs /etc/docker
  dockerd --data-root "$work/docker" --cgroup-parent "/$cgroup" >"$work/docker.log" 2>&1 &
  wait_for 120 own_answers || fail "the owner's engine does not start: $(tail -n 5 "$work/docker.log")"
  mkdir -p "$work/web/bin" "$work/web/www"
  cp "$(command -v busybox)" "$work/web/bin/"
  ln -s busybox "$work/web/bin/httpd"
  echo "the owner's page" >"$work/web/www/index.html"
  tar -C "$work/web" -c . | own import - owner/web >/dev/null
  address=$(a_container first)
  wait_for 30 owner_is_served || fail "the owner's container does not answer on docker0"
  # The usual ports.
  /usr/bin/python3 - 80 5432 6379 <<'PY' &
import selectors, socket, sys
wait = selectors.DefaultSelector()
for port in sys.argv[1:]:
    one = socket.create_server(("127.0.0.1", int(port)))
    wait.register(one, selectors.EVENT_READ, port)
while True:
    for key, _ in wait.select():
        with key.fileobj.accept()[0] as connection:
            connection.sendall(f"the owner's {key.data}\n".encode())
PY
  wait_for 30 ports_are_served || fail "nobody listens on the usual ports"
}

owner_is_served() { [ "$(page_of "$address" 2>/dev/null)" = "the owner's page" ]; }
ports_are_served() {
  local port said
  for port in 80 5432 6379; do
    { said=$(exec 3<>"/dev/tcp/127.0.0.1/$port" && cat <&3); } 2>/dev/null || return 1
    [ "$said" = "the owner's $port" ] || return 1
  done
}

state_of_machine() {
  machine_network
  echo "== listening"
  ss -H -ltun | awk '{print $1, $5}' | sort
  echo "== docker"
  own network ls --format '{{.ID}} {{.Name}}' | sort
  own ps --format '{{.ID}} {{.Status}}' | sed 's/ Up .*/ up/'
  own volume ls -q
  ls /etc/docker 2>/dev/null || true
}

as_the_owner_left_it() { # WHEN
  owner_is_served || fail "the owner's container does not answer $1"
  ports_are_served || fail "the owner's servers do not answer $1"
  state_of_machine >"$work/state-now"
  diff "$work/state" "$work/state-now" >"$work/changes" || fail "the machine is not as it was $1: $(cat "$work/changes")"
}

# The only difference: ports of 127.0.0.1 that are forwarded.
as_with_a_guest() { # WHEN
  owner_is_served || fail "the owner's container does not answer $1"
  ports_are_served || fail "the owner's servers do not answer $1"
  state_of_machine >"$work/state-now"
  diff "$work/state" "$work/state-now" | grep '^[<>]' | grep -v '^> tcp 127\.0\.0\.1:[0-9]*$' >"$work/changes" || return 0
  fail "the machine is not as it was $1: $(cat "$work/changes")"
}

# --- the guest: a user with sudo --------------------------------------------------------------------

make_guest() {
  clone="$work/a guest's folder/the clone"
  mkdir -p "$clone" "$work/bin" "$work/home"
  (cd "$repository" && tar -c --exclude __pycache__ Makefile Cargo.toml scripts examples) | tar -x -C "$clone"
  # As a clone made under `umask 077` is.
  chmod -R go= "$work/a guest's folder"
  chown -R nobody:nogroup "$work/a guest's folder" "$work/home"
  # Not everybody has sudo without a password. This is a program of root's that anybody may run, in a
  # file system that only this machine sees.
  mkdir -m 755 /run/guest
  install -m 4755 /bin/bash /run/guest/as-root
  cat >"$work/bin/sudo" <<'SUDO'
#!/bin/bash
keep=()
while :; do
  case $1 in
    --preserve-env=*)
      IFS=, read -ra names <<<"${1#*=}"
      for name in "${names[@]}"; do [ -z "${!name+set}" ] || keep+=("$name=${!name}"); done
      ;;
    --) shift && break ;;
    -*) echo "sudo: what is $1?" >&2 && exit 1 ;;
    *) break ;;
  esac
  shift
done
exec /run/guest/as-root -p -c 'exec "$@"' as-root setpriv --reuid=0 --regid=0 --clear-groups -- \
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root "${keep[@]}" "$@"
SUDO
  # The set-up only asks for Rust's version, and what the demos build is there.
  printf '#!/bin/sh\necho "rustc %s"\n' "$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repository/Cargo.toml").0" >"$work/bin/rustc"
  cat >"$work/bin/cargo" <<CARGO
#!/bin/sh
[ "\$1" != metadata ] || echo '{"target_directory": "$work/home/target"}'
CARGO
  if [ -n "$program" ]; then
    mkdir -p "$work/home/target/release"
    install -m 700 "$program" "$work/home/target/release/restore"
    chmod 700 "$work/home/target" "$work/home/target/release"
    chown -R nobody:nogroup "$work/home/target"
  fi
  chmod 755 "$work/bin"/*
}

guest() {
  (
    cd "$work/home"
    umask 077
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- env -i HOME="$work/home" USER=nobody \
      RESTORE_SWARM_CACHE="$RESTORE_SWARM_CACHE" PATH="$work/bin:/usr/local/bin:/usr/bin:/bin" "$@"
  )
}

page() { guest curl -sS -m 10 -o "$work/home/answer" -w '%{http_code}' -H 'Host: www.example.test' "http://127.0.0.1:$1/health" 2>/dev/null; }
shows() { [ "$(page "$1")" = "$2" ]; }
setting() { sed -n "s/^$2=//p" "$1/platform.env"; }

local_platform() {
  guest "$clone/examples/local-platform/platform" create --rows 20 --volume-mb 1
  # Servers' users cannot enter the clone.
  [ -f /srv/restore-demo/platform.env ] || fail "the local platform is not in /srv/restore-demo"
  shows "$(setting /srv/restore-demo HTTP_PORT)" 200 || fail "the local platform's page does not answer"
  as_with_a_guest "beside the local platform"
  guest "$clone/examples/local-platform/platform" destroy
  as_the_owner_left_it "after the local platform"
}

swarm_platform() {
  local platform="$clone/examples/hosting-platform/platform" port id
  guest "$platform" create --rows 20 --volume-mb 1
  root=/srv/restore-demo-swarm
  [ -f "$root/platform.env" ] || fail "the swarm's platform is not in $root"
  port=$(setting "$root" HTTP_PORT)
  shows "$port" 200 || fail "the platform's page does not answer: $(page "$port")"
  as_with_a_guest "beside the platform"
  id=$(guest "$clone/examples/hosting-platform/backup.sh")
  [ -s "$root/backups/$id/MANIFEST.txt" ] || fail "no backup"
  step "a server that goes and comes, seen through its port"
  guest "$platform" service hosting_nginx stop
  wait_for 10 refuses "$port" || fail "port $port takes connections with nobody behind it"
  guest "$platform" service hosting_nginx start
  wait_for 60 shows "$port" 200 || fail "the page is not back"
  forwarded
  second=$(a_container second)
  [ "$(page_of "$second")" = "the owner's page" ] || fail "the owner cannot start a container beside the platform"
  own rm -f second >/dev/null
  step "stopping and starting it"
  guest "$platform" stop
  as_the_owner_left_it "while the platform is stopped"
  guest "$platform" start
  shows "$port" 200 || fail "the page does not answer after a restart"
  guest "$platform" destroy
  [ ! -e "$root" ] || fail "destroy left $root"
}

demo() { # KIND FOLDER SCRIPTS
  local port
  guest "$clone/examples/demo.sh" "$1" >"$work/demo.log" 2>&1 || fail "the demo: $(tail -n 40 "$work/demo.log")"
  port=$(setting "$2" HTTP_PORT)
  # It ends with a damaged platform.
  shows "$port" 503 || fail "the demo's page does not answer"
  as_with_a_guest "beside the demo"
  guest "$clone/examples/$3/platform" destroy
  as_the_owner_left_it "after the demo"
}

refuses() {
  local status=0
  guest curl -sS -m 5 "http://127.0.0.1:$1/" >/dev/null 2>&1 || status=$?
  [ "$status" = 7 ]
}

# Much data, one direction ended before the other.
forwarded() {
  local port=31999
  "$here/engine" -d "$root/engine" exec /usr/bin/python3 - "$port" <<'PY' &
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server, server.accept()[0] as one:
    got = b"".join(iter(lambda: one.recv(1 << 20), b""))
    one.sendall(got[::-1])
PY
  "$here/engine" -d "$root/engine" forward "$port" "$(setting "$root" HTTP_PORT)"
  guest /usr/bin/python3 - "$port" <<'PY' || fail "what goes through a forwarded port is not what comes out"
import os, socket, sys, time
sent = os.urandom(20 << 20)
for _ in range(600):
    try:
        one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
with one:
    one.sendall(sent)
    one.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: one.recv(1 << 20), b""))
sys.exit(got != sent[::-1])
PY
  wait "$!"
}

inside_the_machine() {
  work=$1 cgroup=$2 SECONDS=$3 program=$4
  step "a machine with an engine, containers, a firewall, servers"
  make_machine
  make_guest
  state_of_machine >"$work/state"
  kept_images >"$work/kept"
  step "a user with sudo sets up"
  guest "$clone/scripts/setup.sh" engine
  as_the_owner_left_it "after the set-up"
  if [ -n "$program" ]; then
    step "the demo on local processes"
    demo local /srv/restore-demo local-platform
    step "the demo on Docker"
    demo swarm /srv/restore-demo-swarm hosting-platform
    step "the demo on Docker Compose"
    demo compose /srv/restore-demo-compose compose-platform
  else
    step "the local platform"
    local_platform
    step "the platform on Docker"
    swarm_platform
  fi
  as_the_owner_left_it "after the platform"
  second=$(a_container third)
  wait_for 10 page_of "$second" >/dev/null || fail "the owner cannot start a container afterwards"
  [ ! -e /run/restore-hosting-engines ] || fail "a reservation is left"
  kept_images | cmp -s "$work/kept" - || fail "the kept images changed by being used"
  step "passed"
}

case ${1:-} in
  "") outside "" ;;
  --demos) outside "$(realpath -e -- "${2:?with which program}")" ;;
  inside) inside_the_machine "${@:2}" ;;
  *) die "usage: guest-test.sh [--demos PROGRAM]" ;;
esac
