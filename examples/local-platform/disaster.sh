#!/bin/bash
# Destroys everything of the platform but what a new machine has before a restore: the servers'
# programs and settings (etc/, platform.env), the passwords (secrets/), and the backups.
#
#   disaster.sh [-d DIR]
#
# Gone are PostgreSQL's cluster, Redis' data, every volume and tree, the crontab, the journals and
# reports of all runs, and restore.toml.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

"$here/platform" -d "$root" stop
rm -rf -- "$root"/{postgres,volumes,opt,mnt,crontab,state,restore.toml}
# Logs are the old machine's, their directory is the servers' packages'.
rm -rf -- "$root"/log/*
