#!/bin/bash
# Restores the platform in place by the runbook's own commands: what `restore run` is compared with.
#
#   runbook.sh [-d DIR] [--without-sleeps] [--without-backup] ID
#
# Prints two numbers: the seconds that it took, and the seconds between the first and the last
# request of a user (one every 100 ms, by name, through nginx) that was not answered as it should be:
# on a platform that is healthy when it begins, the downtime.
#
# The commands are the runbook's, changed only where they could not work here: paths are below DIR;
# helper containers run the platform's own tools instead of an image from a registry; where `watch`
# would never return, what it watches for is awaited; passwords are no arguments. --without-sleeps
# waits for what each fixed sleep is there for instead. --without-backup leaves out step 2.
#
# It takes a platform made with --plain, because the runbook's name filters and its default server
# stumble over the other kind, and with --appendonly no, because Redis ignores what step 6 restores
# otherwise. It keeps nothing of what it replaces.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"
parse_root "$@"
set -- "${rest[@]}"
sleeps=yes backup=yes
while [ $# -gt 1 ]; do
  case $1 in
    --without-sleeps) sleeps= ;;
    --without-backup) backup= ;;
    *) die "unknown option $1" ;;
  esac
  shift
done
load_platform
export BACKUP_ID=${1:?which backup}
export BACKUP_DIR=$root/backups/$BACKUP_ID POSTGRES_USER=$PG_USER POSTGRES_DB=$PG_DATABASE
[ -d "$BACKUP_DIR" ] || die "there is no backup $BACKUP_DIR"
if docker volume ls -q | grep -qx grafana_data_old; then die "this platform was not made with --plain"; fi
[ "$(redis_ CONFIG GET appendonly | tail -n 1)" = no ] || die "this platform was not made with --appendonly no"

work=$(mktemp -d)
log=$root/log/runbook.log
site=http://127.0.0.1:$HTTP_PORT
prober=
end() {
  [ -z "$prober" ] || kill "$prober" 2>/dev/null || true
  rm -rf -- "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

code() { inside curl -s -m 2 -o /dev/null -w '%{http_code}' "$@" || true; }
probe() {
  while :; do
    echo "$(date +%s.%N) $(code -H 'Host: www.example.test' "$site/health")"
    sleep 0.1
  done
}
# pause SECONDS CONDITION…: the runbook's sleep, or what it is there for.
pause() {
  if [ -n "$sleeps" ]; then
    sleep "$1"
  else
    shift
    wait_for 120 "$@" || die "never came true: $*"
  fi
}
stopped() { [ -z "$(docker ps -q -f "name=^$1\.")" ]; }
answers() { [ "$(code "${@:2}")" = "$1" ]; }
run_all() {
  local name
  for name in "$@"; do
    docker service ls --format '{{.Name}} {{.Replicas}}' | grep -Eq "^$name ([0-9]+)/\1$" || return 1
  done
}
helper() { docker run --rm --network none "$@"; }

steps() {
  # Step 1: Pre-Restore Verification
  while IFS='|' read -r file size checksum; do
    # The manifest's own line never matches.
    [ "$file" != MANIFEST.txt ] || continue
    if [ -f "${BACKUP_DIR}/${file}" ]; then
      ACTUAL_CHECKSUM=$(sha256sum "${BACKUP_DIR}/${file}" | cut -d' ' -f1)
      if [ "${ACTUAL_CHECKSUM}" = "${checksum}" ]; then
        echo "✓ ${file} ${size}"
      else
        echo "✗ ${file} - Checksum mismatch!"
        exit 1
      fi
    fi
  done < <(grep -v "^=" "${BACKUP_DIR}/MANIFEST.txt" | grep "|")

  # Step 2: Create Pre-Restore Backup
  [ -z "$backup" ] || "$here/backup.sh" -d "$root"

  # Step 3: Enable Maintenance Mode
  echo "<h1>System Maintenance</h1>" >"$work/maintenance.html"
  docker cp "$work/maintenance.html" \
    "$(docker ps -q -f name=hosting_nginx | head -1)":/usr/share/nginx/html/
  cat >"$root/mnt/nfs/nginx/conf.d/maintenance.conf" <<'CONF'
server {
    listen 80 default_server;
    server_name _;
    root /usr/share/nginx/html;

    location / {
        return 503;
    }

    error_page 503 @maintenance;
    location @maintenance {
        rewrite ^(.*)$ /maintenance.html break;
    }
}
CONF
  docker service update --no-resolve-image --force hosting_nginx
  # The page itself went with the container that it was copied into: what is left is a 404.
  pause 10 answers 404 -H 'Host: elsewhere.test' "$site/"

  # Step 4: Stop All Services
  docker service ls
  docker service scale hosting_app=0
  pause 30 stopped hosting_app
  docker service ps hosting_app --filter "desired-state=running"

  # Step 5: Restore PostgreSQL Database
  POSTGRES_CONTAINER=$(docker ps -q -f name=hosting_postgres)
  docker exec -i "${POSTGRES_CONTAINER}" psql -U "${POSTGRES_USER}" -d postgres <<SQL
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = '${POSTGRES_DB}' AND pid <> pg_backend_pid();
SQL
  docker exec -i "${POSTGRES_CONTAINER}" psql -U "${POSTGRES_USER}" -d postgres <<SQL
DROP DATABASE IF EXISTS ${POSTGRES_DB};
CREATE DATABASE ${POSTGRES_DB};
GRANT ALL PRIVILEGES ON DATABASE ${POSTGRES_DB} TO ${POSTGRES_USER};
SQL
  docker cp "${BACKUP_DIR}/postgres/postgres-${BACKUP_ID}.dump" "${POSTGRES_CONTAINER}":/tmp/
  docker exec "${POSTGRES_CONTAINER}" \
    pg_restore -U "${POSTGRES_USER}" -d "${POSTGRES_DB}" --clean --if-exists \
    --no-owner --no-privileges --exit-on-error "/tmp/postgres-${BACKUP_ID}.dump"
  docker exec -i "${POSTGRES_CONTAINER}" psql -U "${POSTGRES_USER}" -d "${POSTGRES_DB}" <<'SQL'
SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public';
SELECT * FROM schema_migrations ORDER BY version DESC LIMIT 5;
SQL

  # Step 6: Restore Redis Data
  docker service scale hosting_redis=0
  pause 10 stopped hosting_redis
  REDIS_VOLUME=$(docker volume ls --filter "name=redis_data" --format "{{.Name}}")
  helper -v "${REDIS_VOLUME}":/data -v "${BACKUP_DIR}/redis":/backup \
    restore-example/tools:1 cp "/backup/redis-${BACKUP_ID}.rdb" /data/dump.rdb
  docker service scale hosting_redis=1
  pause 20 redis_ready
  redis_ DBSIZE

  # Step 7: Restore Docker Volumes
  for volume in prometheus_data grafana_data nginx_logs; do
    name=${volume%_data}
    name=${name//_/-}
    VOLUME=$(docker volume ls --filter "name=$volume" --format "{{.Name}}")
    helper -v "${VOLUME}":/data -v "${BACKUP_DIR}/volumes":/backup restore-example/tools:1 \
      sh -c "rm -rf /data/* && tar xzf /backup/${name}-${BACKUP_ID}.tar.gz -C /data"
    helper -v "${VOLUME}":/data restore-example/tools:1 ls -lh /data | head -10
  done

  # Step 8: Restore Configurations
  for name in docker-compose nginx-config prometheus-config scripts; do
    tar xzf "${BACKUP_DIR}/configs/$name-${BACKUP_ID}.tar.gz" -C "$root"
  done
  cp "${BACKUP_DIR}/configs/crontab-${BACKUP_ID}.txt" "$root/crontab"

  # Step 9: Restore Application Code, into the folder where it is
  tar xzf "${BACKUP_DIR}/app/applications-${BACKUP_ID}.tar.gz" -C "$root/opt/applications"
  if compgen -G "${BACKUP_DIR}/app/docker-image-*.tar.gz" >/dev/null; then
    for image_file in "${BACKUP_DIR}"/app/docker-image-*.tar.gz; do
      gunzip -c "${image_file}" | docker load
    done
  fi

  # Step 10: Restart Services
  for name in hosting_postgres hosting_redis prometheus grafana; do
    docker service update --no-resolve-image --force "$name"
  done
  pause 60 run_all hosting_postgres hosting_redis prometheus grafana
  docker service scale hosting_app=5
  wait_for 120 run_all hosting_app || die "hosting_app does not run"

  # Step 11: Disable Maintenance Mode
  rm "$root/mnt/nfs/nginx/conf.d/maintenance.conf"
  docker service update --no-resolve-image --force hosting_nginx
  pause 10 answers 200 "$site/health"

  # Step 12: Post-Restore Verification
  docker exec "$(docker ps -q -f 'name=^hosting_app\.' | head -1)" \
    sh -c 'PGPASSWORD=$(cat /run/secrets/postgres.pass) psql -h postgres -U ${DB_USER} -d ${DB_NAME} -c "SELECT 1"'
  docker exec "$(docker ps -q -f 'name=^hosting_app\.' | head -1)" \
    sh -c 'REDISCLI_AUTH=$(cat /run/secrets/redis.pass) redis-cli -h redis ping'
  inside curl -f "$site/health"
  inside curl -f "$site/api/version"
  psql_ -d "${POSTGRES_DB}" -c "SELECT count(*) as user_count FROM users"
  docker service logs hosting_app --since 10m 2>&1 | grep -ic error || true
  docker service ls | grep hosting_app
  inside curl -s "http://127.0.0.1:$PROMETHEUS_PORT/-/healthy"
  inside curl -s "http://$GRAFANA_HOST:$GRAFANA_PORT/api/health"
}

probe >"$work/answers" &
prober=$!
began=$(date +%s.%N)
(steps) >>"$log" 2>&1 </dev/null || {
  tail -n 20 "$log" >&2
  die "the runbook failed; all it said is in $log"
}
ended=$(date +%s.%N)
wait_for 120 answers 200 -H 'Host: www.example.test' "$site/health" || die "the website is not back after 120 s"
kill "$prober"
wait "$prober" 2>/dev/null || true
prober=
awk -v total="$(awk "BEGIN { print $ended - $began }")" '
  $2 == 200 { if (since && !until) until = $1 }
  $2 != 200 { if (!since) since = $1; until = 0; codes[$2]++ }
  END {
    printf "total %.1f downtime %.1f\n", total, since ? until - since : 0
    for (code in codes) printf "%d requests answered by %s\n", codes[code], code > "/dev/stderr"
  }' "$work/answers"
