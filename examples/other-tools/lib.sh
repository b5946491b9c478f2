# A small machine in $root, for test.sh; sourced by bash, never run.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck disable=SC2012 # the names are version numbers
pg_bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)

die() {
  printf 'other-tools: %s\n' "$*" >&2
  exit 1
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }

# What `systemctl`, `ssh` and `tar` are on a machine of this kind.
programs() {
  mkdir -p "$root/bin"
  cat >"$root/bin/systemctl" <<END
#!/bin/sh
ctl() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$pg_bin/pg_ctl" -D "$root/pg" "\$@" >/dev/null; }
case \$1 in
  start) ctl -w -l "$root/pg/log" -o "-k $root/run/postgresql -h '' -p 5432" start ;;
  stop) ctl -m fast stop ;;
  is-active) ctl status ;;
esac
END
  printf '#!/bin/sh\nshift\nexec sh -c "$*"\n' >"$root/bin/ssh"
  # Names begin where the machine begins.
  printf '#!/bin/sh\nexec /usr/bin/tar --transform="flags=r;s#^%s/#/#" "$@"\n' "$root" >"$root/bin/tar"
  chmod 755 "$root"/bin/*
  export PATH=$root/bin:$pg_bin:$PATH PGHOST=$root/run/postgresql PGUSER=postgres PGPORT=5432
  hash -r
  # Where nothing in it can be run, the shell passes over it and takes what this machine itself has.
  local program
  for program in systemctl ssh tar; do
    [ "$(command -v "$program")" = "$root/bin/$program" ] ||
      die "no program can be run in $root/bin: is ${TMPDIR:-/tmp} mounted noexec? name another place by TMPDIR"
  done
}

# A server with the database shop, and a tree of uploads.
machine() {
  mkdir -p "$root"/{run/postgresql,srv/uploads/2024,var/backups,backup,mnt/nas,home/shop,var/lib/restore}
  install -d -o postgres -m 700 "$root/pg"
  chown postgres "$root/run/postgresql"
  as_postgres "$pg_bin/initdb" -D "$root/pg" -U postgres -A trust -N >"$root/initdb.log"
  "$root/bin/systemctl" start postgresql
  psql -qd postgres -c 'CREATE ROLE shop LOGIN' -c 'CREATE DATABASE shop OWNER shop'
  psql -qd shop -c 'CREATE TABLE orders (id int PRIMARY KEY, total numeric)' \
    -c 'ALTER TABLE orders OWNER TO shop' \
    -c 'INSERT INTO orders SELECT i, i * 1.5 FROM generate_series(1, 500) i'
  local tree
  for tree in srv/uploads home/shop; do
    mkdir -p "$root/$tree/2024"
    printf 'a photo\n' >"$root/$tree/2024/one.jpg"
    printf 'another\n' >"$root/$tree/2024/two words.jpg"
    ln -s 2024/one.jpg "$root/$tree/newest"
  done
}

# What the machine holds, without what runs keep beside it.
content() {
  psql -AtXd shop -c 'SELECT count(*), sum(total) FROM orders' 2>&1
  (cd "$root"
    find srv home -name '.restore-*' -prune -o -printf '%p %y %m %l\n' | sort
    find srv home -name '.restore-*' -prune -o -type f -exec sha256sum {} + | sort)
}

damage() {
  psql -qd shop -c 'DELETE FROM orders WHERE id > 7'
  rm "$root"/{srv/uploads,home/shop}/newest
  printf 'ransom\n' >"$root/srv/uploads/2024/one.jpg"
  printf 'ransom\n' >"$root/home/shop/2024/one.jpg"
}
