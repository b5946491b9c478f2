#!/bin/bash
# Damages every part of the platform: databases, volumes, trees, the crontab. Something is
# missing, something is changed and something is there that should not be, everywhere.
#
#   damage.sh [-d DIR]
#
# It can be run again on a damaged platform. What no component owns (other databases, roles,
# node_modules, passwords) stays whole, and the servers keep running.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$here/damage-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

damage_postgres
damage_redis
for volume in prometheus_data grafana_data nginx_logs nginx_cache; do
  damage_tree "$root/volumes/$volume"
done
rm -rf "$root/volumes/nginx_cache/proxy/"*
damage_tree "$root/opt/docker-compose"

# A whole folder gone, and one emptied of what it had.
rm -rf "$root/mnt/nfs/monitoring"
rm -rf "$root/opt/scripts/"*
echo 'echo damaged' >"$root/opt/scripts/new.sh"

damage_nginx_and_app
echo '* * * * * echo damaged' >"$root/crontab"
