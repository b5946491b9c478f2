#!/bin/bash
# The demo: a hosting platform is backed up by plain shell commands, damaged in every part,
# restored, and compared with what it was, content by content; then the same backwards.
#
#   make demo                     or demo.sh local: a platform of local processes
#   make demo PLATFORM=swarm      or demo.sh swarm: a stack on a Docker Swarm of its own
#   make demo PLATFORM=compose    or demo.sh compose: Compose projects on a Docker engine of its own
#   make demo SCENE=disaster      or demo.sh local disaster: all of it is destroyed, and three commands
#                                 bring it back on what is left: the servers' programs and settings,
#                                 the passwords, and the backups; with PLATFORM=swarm or compose on a
#                                 new engine
#
# RESTORE_DEMO_DIR=DIR puts the platform elsewhere.
# It can be run again: an old demo is stopped and replaced. Nothing outside the platform's folder
# and target/ is changed, but for what scripts/setup.sh installs.
set -euo pipefail
kind=${1:-local}
scene=${2:-damage}
case $scene in
  damage | disaster) ;;
  *)
    echo "there is no scene $scene: damage, or disaster" >&2
    exit 2
    ;;
esac
case $kind in
  local) folder=local-platform ;;
  swarm) folder=hosting-platform ;;
  compose) folder=compose-platform ;;
  *)
    echo "there is no platform $kind: local, swarm, or compose" >&2
    exit 2
    ;;
esac
# shellcheck source=local-platform/lib.sh
self=$(readlink -f "$0")
. "${self%/*}/$folder/lib.sh"
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"
cd "$repository"

# --- how it talks ----------------------------------------------------------------------------

chapter() { printf '\n\n%s\n%s\n' "$*" "${*//?/-}"; }
say() { printf '\n%s\n' "$*"; }

# Shows a command as one would type it in the repository's folder, and runs it.
run() {
  local word line=
  for word in "$@"; do
    word=${word/#"$repository/"/}
    case $word in *[!A-Za-z0-9_./:=@%+-]*) word="'$word'" ;; esac
    line+=" $word"
  done
  printf '\n$%s\n' "$line"
  "$@"
}

ask() { run curl -sS -H 'Host: www.example.test' "http://127.0.0.1:$HTTP_PORT$1" || true; }

# same FILE FILE STATE: the platform's content, part by part, or the end of the demo.
same() {
  run "${as_root[@]}" "$here/fingerprint.py" --compare "$1" "$2" || {
    printf '\nThe demo FAILED: the platform is not %s.\n' "$3" >&2
    exit 1
  }
}

# fingerprint FILE [OPTION]
fingerprint() {
  local to=$1
  shift
  printf '\n$ %s > %s\n' "${as_root:+sudo }${platform#"$repository/"} -d $shown fingerprint${*:+ $*}" "$to"
  "${as_root[@]}" "$platform" -d "$root" fingerprint "$@" >"$to"
}

# --- what it needs ---------------------------------------------------------------------------

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "the demo starts servers as users of their own, which takes root or sudo"
  as_root=(sudo)
  # sudo forgets the environment.
  [ -z "${RESTORE_SWARM_CACHE:-}" ] || as_root+=(--preserve-env=RESTORE_SWARM_CACHE)
fi

chapter "Set-up"
case $kind in
  local) run scripts/setup.sh ;;
  swarm | compose) run scripts/setup.sh engine ;;
esac
run cargo build --release --locked -p restore-cli
target=$(cargo metadata --format-version 1 --no-deps --offline |
  /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

platform=$here/platform
root=$("${as_root[@]}" env RESTORE_DEMO_DIR="${RESTORE_DEMO_DIR:-}" \
  bash -c '. "$1"; parse_root; printf "%s\n" "$root"' - "$here/lib.sh")
shown=${root#"$repository/"}
restore=("${as_root[@]}" "$target/release/restore" --config "$root/restore.toml")

failed() {
  local status=$?
  [ "$status" -ne 0 ] || return 0
  printf '\nThe demo stopped early; stopping its servers. Its files stay in %s.\n' "$root" >&2
  "${as_root[@]}" "$platform" -d "$root" stop || true
  [ -z "${work:-}" ] || rm -rf -- "$work"
}
trap failed EXIT
trap 'exit 130' INT TERM
work=$(mktemp -d)

# --- the story -------------------------------------------------------------------------------

chapter "1. A hosting platform"
case $kind in
  local)
    say "PostgreSQL, Redis, nginx and a small application, with volumes, configuration trees, a crontab
file and the application's code, all in $root."
    ;;
  swarm)
    images=" The name
of the application's image means another build."
    say "The runbook's platform as a stack: PostgreSQL, Redis, nginx, an application in five replicas,
Prometheus, a stand-in for Grafana; on a Docker engine of its own, which this machine's own never
meets; all in $root. The first time, its images are made from Debian's packages."
    ;;
  compose)
    say "Two projects of Docker Compose: PostgreSQL, Redis, nginx, an application in two containers and its
worker; a stand-in for Grafana; on a Docker engine of its own, which this machine's own never meets;
all in $root. The first time, its images are made from Debian's packages."
    ;;
esac
run "${as_root[@]}" "$platform" -d "$root" create --replace
run "${as_root[@]}" "$platform" -d "$root" status
HTTP_PORT=$(sed -n 's/^HTTP_PORT=//p' "$root/platform.env")
ask /health
ask /api/version
if [ "$scene" = disaster ]; then
  # shellcheck source=local-platform/disaster-scene.sh source=hosting-platform/disaster-scene.sh source=compose-platform/disaster-scene.sh
  . "$here/disaster-scene.sh"
  exit
fi

chapter "2. A backup by plain shell commands"
case $kind in
  local) say "pg_dump, redis-cli, tar and sha256sum, as a runbook has them: nothing of restore's." ;;
  swarm | compose) say "docker, pg_dump, redis-cli, tar and sha256sum, as the runbook has them: nothing of restore's." ;;
esac
run "${as_root[@]}" "$here/backup.sh" -d "$root"
say "What the platform holds at this moment: every row, key and file as a digest."
fingerprint "$work/at-backup-time"

chapter "3. Damage"
say "Tables dropped and rows changed, keys deleted, files removed, altered and added everywhere.${images:-}"
run "${as_root[@]}" "$here/damage.sh" -d "$root"
fingerprint "$work/damaged"
run "${as_root[@]}" "$here/fingerprint.py" --compare "$work/at-backup-time" "$work/damaged" || true
ask /health
ask /api/version

chapter "4. What a restore would do"
run "${restore[@]}" plan latest

chapter "5. The restore"
run "${restore[@]}" run latest --yes
say "Is everything back? The platform now, against the moment of the backup:"
fingerprint "$work/restored"
same "$work/at-backup-time" "$work/restored" "as it was at backup time"
ask /health
ask /api/version

chapter "6. Damage again, restore again, and back"
say "Until a run is confirmed the data that it replaced is kept. Here the damaged state is what
gets replaced, and rollback brings it back: exactly it, as a mistaken restore would need."
run "${restore[@]}" confirm --yes
run "${as_root[@]}" "$here/damage.sh" -d "$root"
fingerprint "$work/damaged-again"
run "${restore[@]}" run latest --yes
fingerprint "$work/restored-again"
same "$work/at-backup-time" "$work/restored-again" "as it was at backup time"
# Exit code 8: it is back, and what was damaged before the run fails its checks again.
run "${restore[@]}" rollback --yes || [ $? = 8 ]
say "The platform now, against the moment before the run that was rolled back:"
fingerprint "$work/rolled-back"
same "$work/damaged-again" "$work/rolled-back" "as it was before the run"
say "The restored copy that the rollback put aside is not needed any more:"
run "${restore[@]}" confirm --yes
rm -rf -- "$work"
work=

chapter "All of it was as it should be"
logs="  log/             the servers' logs" again= explained=", each key explained"
if [ "$kind" != local ]; then
  logs="  engine/          the Docker engine; its command: ${platform#"$repository/"} -d $shown docker …"
  again=" PLATFORM=$kind"
fi
[ "$kind" != compose ] || explained=
cat <<TEXT

The platform is damaged again, and still runs. Everything lies in $root:

  restore.toml     the platform as restore sees it$explained
  backups/         the backup
  state/           journals and reports of the runs
  log/restore.log  the reports as text
$logs

Three commands to try next:

  ${restore[*]} run latest
  ${restore[*]} report
  ${restore[*]} rollback

To stop the platform and delete it: make demo-stop$again
TEXT
