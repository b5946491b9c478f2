#!/bin/bash
# Damages every part of the platform: databases, volumes, trees, the crontab, images. Something is
# missing, something is changed and something is there that should not be, everywhere.
#
#   damage.sh [-d DIR]
#
# It can be run again on a damaged platform. What no component owns (other databases, roles, other
# volumes, node_modules, passwords) stays whole, and every service runs, and can be started anew:
# a restore has to turn back to this very state if it fails.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$sibling/damage-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

damage_postgres
damage_redis

# What Prometheus rewrites as it runs is left to it.
prometheus=$(volume_path prometheus_data)
damage_tree "$prometheus" wal chunks_head queries.active lock
find "$prometheus" -path '*/snapshots/*' -name 000001 -exec sh -c 'echo "damaged $$" >"$1"' - {} \;
for volume in grafana_data hosting_nginx_logs hosting_nginx_cache; do
  damage_tree "$(volume_path "$volume")"
done
rm -rf "$(volume_path hosting_nginx_cache)/proxy/"*
damage_tree "$root/opt/docker-compose"

# A whole folder gone, one emptied of what it had, and one that a service needs to start.
rm -rf "$root/opt/scripts"
monitoring=$root/mnt/nfs/monitoring
rm -rf "$monitoring/rules" "$monitoring/grafana" "$monitoring/empty"
sed -i 's/^  scrape_interval:.*/  scrape_interval: 60s/' "$monitoring/prometheus.yml"
echo "$RANDOM" >"$monitoring/.new-and-hidden"

damage_nginx_and_app
echo '* * * * * echo damaged' >"$root/crontab"

# The tag points to another build.
on_each_node docker tag localhost:5000/hosting-app:2.4.0 localhost:5000/hosting-app:2.4.1

# What holds the old state open is started anew, as after a reboot. If it ran on with that, a restore
# that turns back could not make it so again.
anew() {
  [ "$(docker service inspect -f '{{.Spec.Mode.Replicated.Replicas}}' "$1")" != 0 ] || return 0
  "$here/platform" -d "$root" service "$1" stop
  "$here/platform" -d "$root" service "$1" start
}
waiting=()
for service in hosting_app hosting_app_worker grafana; do
  anew "$service" &
  waiting+=($!)
done
for pid in "${waiting[@]}"; do wait "$pid"; done
