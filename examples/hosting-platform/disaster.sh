#!/bin/bash
# Destroys everything of the platform but what a new machine has before a restore: an engine that is
# in no swarm and has the images of the registries, the passwords (secrets/), the disk of PostgreSQL's
# log (srv/), and the backups.
#
#   disaster.sh [-d DIR]
#
# Gone are the engine's data (the swarm, its services, configs, secrets and networks, every volume, the
# application's image), every tree, the crontab, the journals and reports of all runs, and
# restore.toml. Takes an engine of the platform's own with one node.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform
[ "$engine" = "$root/engine" ] || die "the engine in $engine is not the platform's own: left alone"

"$here/engine" -d "$engine" renew
# The application's image is in no registry.
docker image rm -f localhost:5000/hosting-app:2.4.1 >/dev/null
rm -rf -- "$root"/{opt,mnt,crontab,state,restore.toml}
# Logs are the old machine's.
rm -rf -- "$root"/log/*
forward
