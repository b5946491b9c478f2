#!/bin/sh
# Creates the services `prometheus` and `grafana`; no stack's name is put before theirs.
set -eu
docker service create --quiet --detach --no-resolve-image --name prometheus \
  --constraint 'node.role == manager' --endpoint-mode dnsrr --restart-delay 1s --update-monitor 1s \
  --network hosting_backend --publish mode=host,target=9090,published=@PROMETHEUS_PORT@ \
  --mount type=volume,source=prometheus_data,target=/prometheus \
  --mount type=bind,source=@ROOT@/mnt/nfs/monitoring,target=/etc/prometheus,readonly \
  restore-example/prometheus:2.42 --config.file=/etc/prometheus/prometheus.yml \
  --storage.tsdb.path=/prometheus --storage.tsdb.retention.time=100y
docker service create --quiet --detach --no-resolve-image --name grafana \
  --constraint '@GRAFANA_CONSTRAINT@' --endpoint-mode dnsrr --restart-delay 1s --update-monitor 1s \
  --network hosting_backend --publish mode=host,target=3000,published=@GRAFANA_PORT@ \
  --mount type=volume,source=grafana_data,target=/var/lib/grafana \
  restore-example/grafana-stand-in:1
