#!/bin/bash
# Destroys everything of the platform but what a new machine has before a restore: an engine with the images of
# the registries, the passwords (secrets/), and the backups.
#
#   disaster.sh [-d DIR]
#
# Gone are the engine's data (containers, networks, every volume, the application's image), every tree, the
# crontab, the journals and reports of all runs, and restore.toml.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
become_root "$(readlink -f "$0")" "$@"
parse_root "$@"
load_platform

"$hosting/engine" -d "$engine" renew
docker image rm -f "$app_image" >/dev/null
rm -rf -- "$root"/{opt,mnt,crontab,state,restore.toml}
# Logs are the old machine's.
rm -rf -- "$root"/log/*
forward
