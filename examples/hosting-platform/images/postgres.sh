#!/bin/sh
# Makes a cluster in an empty folder, as the usual image does, and becomes PostgreSQL.
# POSTGRES_USER, POSTGRES_PASSWORD_FILE, POSTGRES_DB
set -eu
case ${1:-} in -*) set -- postgres "$@" ;; esac
if [ "${1:-}" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown postgres "$PGDATA"
  chmod 700 "$PGDATA"
  install -d -o postgres -g postgres -m 2775 /var/run/postgresql
  # The secret is root's: PostgreSQL's user gets a copy of it while the cluster is made.
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -o postgres -m 600 "$POSTGRES_PASSWORD_FILE" /tmp/password
  fi
  exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="${POSTGRES_USER:-postgres}" --pwfile=/tmp/password --auth-host=scram-sha-256 \
    --auth-local=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions
  rm -f /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  # A server for nobody but us: whoever asks over the socket takes it for the real one.
  pg_ctl --silent --wait -o "-c listen_addresses=''" start
  createdb --username="${POSTGRES_USER:-postgres}" --maintenance-db=postgres -T template0 \
    "${POSTGRES_DB:-${POSTGRES_USER:-postgres}}" || [ "${POSTGRES_DB:-postgres}" = postgres ]
  pg_ctl --silent --wait --mode=fast stop
fi
exec "$@"
