# How both example platforms are damaged; sourced by bash after a lib.sh, whose psql_ and redis_ it
# uses, with $root and $PG_DATABASE set.
# shellcheck shell=bash

damage_postgres() {
  psql_ -d "$PG_DATABASE" >/dev/null <<'SQL'
SET client_min_messages = error;
BEGIN;
DROP TABLE IF EXISTS orders, blobs, audit CASCADE;
DROP FUNCTION IF EXISTS order_total(bigint);
DELETE FROM users WHERE id % 3 = 0 AND id NOT IN (SELECT user_id FROM billing.accounts);
UPDATE users SET email = 'lost' || id || '@example.test', settings = '{}' WHERE id % 3 = 1;
UPDATE billing.accounts SET balance = -1;
DELETE FROM schema_migrations WHERE version > 20240201000000;
ALTER TABLE users DROP COLUMN IF EXISTS tags;
ALTER TABLE users ADD COLUMN IF NOT EXISTS junk integer DEFAULT 7;
REVOKE ALL ON users FROM app_readonly;
ALTER SEQUENCE invoice_number RESTART WITH 5;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata;
-- What a dump's own --clean does not know, and what stands in its way.
CREATE TABLE IF NOT EXISTS newer_than_the_backup (id bigint PRIMARY KEY, user_id bigint REFERENCES users);
INSERT INTO newer_than_the_backup SELECT id, id FROM users ON CONFLICT DO NOTHING;
INSERT INTO newer_than_the_backup SELECT 1 + max(id) FROM newer_than_the_backup;
COMMIT;
SQL
}

damage_redis() {
  {
    echo "SELECT 0"
    for key in $(seq 0 2 200); do echo "DEL session:$key"; done
    for key in $(seq 1 2 99); do echo "PERSIST session:$key"; done
    echo "DEL ranking large visitors"
    echo "SET ranking not-a-ranking-any-more"
    echo "LTRIM queue:mail 0 9"
    echo "HSET hash:large field1 changed"
    echo "XADD events * what damage"
    echo "DEL site:name"
    echo "SELECT 3"
    echo "FLUSHDB"
    echo "SELECT 7"
    echo "SET junk $RANDOM$RANDOM"
    echo "FUNCTION FLUSH"
  } | redis_ >/dev/null
}

# damage_tree DIR: of the entries at its top, dot files included, the first loses its content, the
# second its mode and owner, the third is gone; and there are new ones. Left alone is what a server
# rewrites as it runs: nginx's own files, and what is named: damage_tree DIR NAME…
damage_tree() {
  local dir=$1 entry name at=0 spared=()
  shift
  for name in '.restore-*' access.log error.log proxy "$@"; do spared+=(! -name "$name"); done
  while IFS= read -r -d '' entry; do
    case $((at++ % 3)) in
      0) if [ -f "$entry" ] && [ ! -L "$entry" ]; then echo "damaged $RANDOM" >"$entry"; fi ;;
      1) [ -L "$entry" ] || { chmod 700 "$entry" && chown root:root "$entry"; } ;;
      2) rm -rf -- "$entry" ;;
    esac
  done < <(find "$dir" -mindepth 1 -maxdepth 1 "${spared[@]}" -print0 | sort -z)
  echo "$RANDOM" >"$dir/.new-and-hidden"
  mkdir -p "$dir/new folder/deep"
  echo "$RANDOM" >"$dir/new folder/deep/file"
  ln -sfn /nowhere "$dir/new-link"
}

# nginx's tree and the application stay such that both can start: a restore has to turn back to
# this very state if it fails.
damage_nginx_and_app() {
  local nginx=$root/mnt/nfs/nginx
  rm -f "$nginx/conf.d/limits.conf" "$nginx/ssl/README" "$nginx/modules"
  chmod 644 "$nginx/ssl/example.key"
  sed -i '/location \/static/,/^    }/d' "$nginx/conf.d/app.conf"
  echo '# left over' >"$nginx/conf.d/maintenance.conf.old"

  local app=$root/opt/applications/hosting-app
  echo "9.9.9-damaged" >"$app/VERSION"
  echo '# changed' >>"$app/lib/stats.py"
  rm -rf "$app/public" "$app/package.json" "$app/stats.py" "$app/uploads"
  echo junk >"$app/.junk"
}
