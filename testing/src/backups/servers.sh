# A PostgreSQL cluster (as user postgres, for it refuses root) and a Redis with some data.
set -euo pipefail
as_postgres() { runuser -u postgres -- "$@"; }

install -d -o postgres -g postgres -m 755 "$PGSOCKET"
cd "$PGSOCKET"
as_postgres "$PGBIN/initdb" -D "$PGSOCKET/data" -A trust -U postgres --no-sync > initdb.log
as_postgres "$PGBIN/pg_ctl" -D "$PGSOCKET/data" -l "$PGSOCKET/data/server.log" -w \
  -o "-k $PGSOCKET -c listen_addresses='' -c fsync=off" start > /dev/null
createdb -h "$PGSOCKET" -U postgres hosting_db
psql -q -h "$PGSOCKET" -U postgres -v ON_ERROR_STOP=1 hosting_db <<EOF
CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO users SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
CREATE TABLE notes (user_id int REFERENCES users, body text);
INSERT INTO notes SELECT n, md5(random()::text) FROM generate_series(1, 5000) n;
EOF

mkdir "$REDIS_DIR"
redis-server --port 0 --unixsocket "$REDIS_DIR/redis.sock" --dir "$REDIS_DIR" \
  --appendonly yes --daemonize yes --pidfile "$REDIS_DIR/redis.pid" > /dev/null
for ((try = 0; try < 600; try++)); do
  [ "$(redis-cli -s "$REDIS_DIR/redis.sock" PING 2> /dev/null)" = PONG ] && break
  sleep 0.05
done
for ((n = 0; n < 300; n++)); do echo "SET key:$n value-$n-$RANDOM"; done |
  redis-cli -s "$REDIS_DIR/redis.sock" > /dev/null
# The server's own end of the snapshot, not a guess at it.
redis-cli -s "$REDIS_DIR/redis.sock" BGREWRITEAOF > /dev/null
info() { redis-cli -s "$REDIS_DIR/redis.sock" INFO persistence; }
until info | grep -q 'aof_rewrite_in_progress:0' && info | grep -q 'aof_rewrite_scheduled:0'; do
  sleep 0.05
done
redis-cli -s "$REDIS_DIR/redis.sock" SET last one > /dev/null
redis-cli -s "$REDIS_DIR/redis.sock" BGSAVE > /dev/null
until info | grep -q 'rdb_bgsave_in_progress:0'; do sleep 0.05; done
# Servers before Redis 7 wrote both parts into one file.
cat "$REDIS_DIR"/appendonlydir/*.base.rdb "$REDIS_DIR"/appendonlydir/*.incr.aof \
  > "$REDIS_DIR/single.aof"

mkdir -p "$SITE"/{grafana/plugins,prometheus,mnt/nfs/nginx/conf.d,hosting-app}
head -c 300000 /dev/urandom > "$SITE/grafana/grafana.db"
echo hidden > "$SITE/grafana/.dotfile"
seq 20000 > "$SITE/prometheus/samples"
echo "server { listen 80; }" > "$SITE/mnt/nfs/nginx/conf.d/app.conf"
ln -s conf.d/app.conf "$SITE/mnt/nfs/nginx/current.conf"
echo "print('hello')" > "$SITE/hosting-app/app.py"
