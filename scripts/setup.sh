#!/bin/bash
# Installs, by apt, what this repository's tests, demo and benches need and the machine lacks, and
# nothing else. Starts no server. Run it as often as you like: with everything there it only looks.
#
#   scripts/setup.sh           what everything but Docker Swarm needs
#   scripts/setup.sh engine    and a Docker engine, to start privately, and what makes its images
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# Folders in /etc are for every user of the machine, whatever the caller keeps from others.
umask 022
export PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"

with_engine=
case $#:${1:-} in
  0:) ;;
  1:engine) with_engine=yes ;;
  *) die "there is nothing to set up but: engine" ;;
esac

# --- what is missing -------------------------------------------------------------------------

missing=()
need() { # PACKAGE COMMAND…: the package, unless each of the commands is there
  local package=$1 command
  shift
  for command in "$@"; do
    command -v "$command" >/dev/null || {
      missing+=("$package")
      return
    }
  done
}

# Newer Debians keep the client in a package of its own.
docker_client() {
  if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
}

have_file() { compgen -G "$1" >/dev/null; }

# Debian keeps PostgreSQL's programs out of PATH.
for program in postgres initdb psql createdb pg_dump pg_dumpall pg_restore pg_isready; do
  have_file "/usr/lib/postgresql/*/bin/$program" || {
    missing+=(postgresql)
    break
  }
done
have_file '/usr/share/postgresql/*/extension/pgcrypto.control' || missing+=(postgresql-contrib)
need redis-server redis-server
need redis-tools redis-cli redis-check-rdb
need nginx-light nginx
need curl curl
# A static one: the smallest image there is for tests of the swarm platform.
need busybox-static busybox
need rsync rsync
need openssh-client ssh ssh-keygen
need openssh-server sshd
need gpg gpg
need gpg-agent gpg-agent
need tar tar
need gzip gzip
need cron crontab
need attr setfattr getfattr
need coreutils sha256sum realpath du
need util-linux setpriv runuser setsid
need build-essential cc c++
need pkg-config pkg-config
need make make
need man-db man
need groff-base groff
need systemd systemd-analyze
need git git

# An engine of this machine's own, whoever installed it, brings its own programs; it is not touched.
if [ -n "$with_engine" ]; then
  need docker.io dockerd containerd runc
  command -v docker >/dev/null || missing+=("$(docker_client)")
  # Compose: docker's own plugin where that is, else Debian's program.
  docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
  need debootstrap debootstrap
  need iproute2 ip
  need openssl openssl
  need util-linux unshare nsenter flock
  need mount mount
fi

# The example's scripts run on Debian's own Python, whatever else is first in PATH.
python=/usr/bin/python3
if [ -x "$python" ]; then
  has_module() { "$python" -c "import sys, importlib.util as u; sys.exit(u.find_spec('$1') is None)"; }
  has_module psycopg2 || missing+=(python3-psycopg2)
  has_module redis || missing+=(python3-redis)
  has_module ensurepip || missing+=(python3-venv)
else
  missing+=(python3 python3-psycopg2 python3-redis python3-venv)
fi

# --- installing it ---------------------------------------------------------------------------

undo=()
# shellcheck disable=SC2317 # called by the trap
clean_up() {
  if [ ${#undo[@]} -gt 0 ]; then rm -f -- "${undo[@]}"; fi
}

# Packages of servers start them, and PostgreSQL's makes a cluster. Not here: the tests bring up
# servers of their own, elsewhere and on other ports.
hold_servers_back() {
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  local policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d
  if [ ! -e "$policy" ]; then
    undo+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  case " $* " in *" postgresql "*)
    undo+=("$clusters/00-restore-setup.conf")
    mkdir -p "$clusters"
    echo 'create_main_cluster = false' >"$clusters/00-restore-setup.conf"
    ;;
  esac
}

install() {
  hold_servers_back "$@"
  export DEBIAN_FRONTEND=noninteractive
  local wait=(-o DPkg::Lock::Timeout=300)
  apt-get "${wait[@]}" update -q
  # What this machine has already is never given up for them.
  apt-get "${wait[@]}" install -q -y --no-install-recommends --no-remove "$@" ||
    die "apt-get did not install $*; if it had to remove packages for that, install by hand what you want"
  # Nor at the next start of the machine.
  if [ -d /run/systemd/system ]; then
    local package
    for package in "$@"; do
      case $package in
        redis-server) systemctl -q disable redis-server || true ;;
        nginx-light) systemctl -q disable nginx || true ;;
        openssh-server) systemctl -q disable ssh.service ssh.socket || true ;;
        docker.io) systemctl -q disable docker.service docker.socket containerd.service || true ;;
      esac
    done
  fi
}

if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null ||
    die "this machine has no apt-get; install what corresponds to: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "installing ${missing[*]} takes root: run this as root"
    say "asking sudo to install: ${missing[*]}"
    # The whole script again: it finds the same missing, and stops before looking for Rust.
    sudo -- env RESTORE_SETUP_PACKAGES_ONLY=1 "$0" "$@"
  else
    say "installing: ${missing[*]}"
    install "${missing[@]}"
  fi
fi
[ -z "${RESTORE_SETUP_PACKAGES_ONLY:-}" ] || exit 0

# --- what apt does not bring -----------------------------------------------------------------

command -v python3 >/dev/null || die "no python3 in PATH: install Python 3.10 or later"
command -v cargo >/dev/null || die "no cargo in PATH: install Rust 1.89 or later with rustup, https://rustup.rs"
version=$(rustc --version | cut -d' ' -f2)
[ "$(printf '%s\n' 1.89 "$version" | sort -V | head -n 1)" = 1.89 ] ||
  die "Rust $version is too old: run rustup update (1.89 or later is needed)"
say "everything is there"
