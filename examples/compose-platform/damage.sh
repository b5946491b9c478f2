#!/bin/bash
# Damages every part of the platform: databases, volumes, trees, the crontab. Something is missing,
# something is changed and something is there that should not be, everywhere.
#
#   damage.sh [-d DIR]
#
# It can be run again on a damaged platform. What no component owns stays whole, and every service runs,
# and can be started anew: a restore has to turn back to this very state if it fails.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$sibling/damage-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

damage_postgres
damage_redis
for volume in monitoring_grafana_data hosting_nginx_logs hosting_nginx_cache; do
  damage_tree "$(volume_path "$volume")"
done
rm -rf "$(volume_path hosting_nginx_cache)/proxy/"*
# The compose files stay: with them somebody would make it all anew.
damage_tree "$root/opt/docker-compose" "${projects[@]}"
rm -rf "$root/opt/scripts"
rm -rf "$root/mnt/nfs/monitoring/rules" "$root/mnt/nfs/monitoring/empty"
echo "$RANDOM" >"$root/mnt/nfs/monitoring/.new-and-hidden"
damage_nginx_and_app
echo '* * * * * echo damaged' >"$root/crontab"

# What holds the old state open is started anew, as after a reboot. If it ran on with that, a restore
# that turns back could not make it so again.
for service in app worker grafana; do
  for id in $(docker ps -q -f "label=com.docker.compose.service=$service"); do
    docker restart "$id" >/dev/null
  done
done
