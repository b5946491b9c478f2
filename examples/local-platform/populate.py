#!/usr/bin/python3
"""Fills a new platform: `populate.py files ROOT …`, and, once Redis runs, `populate.py redis ROOT`.

Called by `platform create`. The same settings give the same content each time, but for the
passwords, the ports and the times at which keys expire.
"""

import argparse
import contextlib
import fcntl
import gzip
import os
import pwd
import random
import secrets
import socket
import sqlite3
import time
from pathlib import Path

from resp import Redis
from settings import Settings

HERE = Path(__file__).resolve().parent
# Every server of the platform: name in platform.env, so that no two get the same port.
PORTS = ["HTTP_PORT", "HTTP_ALT_PORT", "APP_PORT", "PG_PORT", "REDIS_PORT"]


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files")
    files.add_argument("root", type=Path)
    files.add_argument("--repository", required=True)
    files.add_argument("--pg-bin", required=True)
    files.add_argument("--volume-mb", type=int, default=4)
    files.add_argument("--http-port", type=int, default=0)
    keys = commands.add_parser("redis")
    keys.add_argument("root", type=Path)
    keys.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.command == "redis":
        fill_redis(Settings(arguments.root), arguments.rows)
        return
    os.umask(0o022)
    make_layout(arguments.root)
    make_settings(arguments)
    make_trees(arguments.root, arguments.names, [HERE / "template"])
    make_volumes(arguments.root, arguments.volume_mb)


# --- settings ----------------------------------------------------------------------------------


def make_layout(root):
    for name in ["log", "run", "run/nginx", "volumes", "backups", "state"]:
        (root / name).mkdir()
    for name, owner in [("secrets", "root"), ("etc", "redis"), ("run/redis", "redis")]:
        folder(root / name, 0o700)
        chown(root / name, owner)


def make_settings(arguments):
    root = arguments.root
    ports = pick_ports(PORTS, arguments.http_port)
    lines = ["# The platform in this folder, as the scripts of the example read it."]
    lines += [f"{name}={port}" for name, port in ports.items()]
    lines += ["PG_USER=hosting_user", "PG_DATABASE=hosting_db"]
    write(root / "platform.env", "\n".join(lines) + "\n")
    passwords = {name: secrets.token_urlsafe(18) for name in ["postgres", "redis"]}
    for name, password in passwords.items():
        write(root / "secrets" / f"{name}.pass", password + "\n", mode=0o600)

    names = {
        "ROOT": str(root),
        "HERE": str(HERE),
        "PG_BIN": arguments.pg_bin,
        "REDIS_PASSWORD": passwords["redis"],
        **{name: str(port) for name, port in ports.items()},
    }
    arguments.names = names
    write(root / "restore.toml", fill(HERE / "restore.toml.in", names))
    write(root / "etc/redis.conf", fill(HERE / "redis.conf.in", names), mode=0o600, owner="redis")


def pick_ports(names, http_port):
    """Free ports below the range that the kernel gives to clients.

    Platforms are made at the same time, in tests for instance, and start to listen only later: a
    port that was picked stays reserved for a minute in a file that all of them share.
    """
    shared = Path("/run/restore-local-platform.ports")
    with open(shared, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        now = time.time()
        taken = {}
        for line in file:
            port, _, until = line.partition(" ")
            with contextlib.suppress(ValueError):
                if float(until) > now:
                    taken[int(port)] = float(until)
        found = {}
        for name in names:
            port = http_port if name == "HTTP_PORT" and http_port else free_port(taken)
            taken[port] = now + 60
            found[name] = port
        file.truncate(0)
        file.write("".join(f"{port} {until}\n" for port, until in taken.items()))
    return found


def free_port(taken):
    for _ in range(1000):
        port = random.SystemRandom().randrange(15000, 32000)
        if port in taken:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("found no free port between 15000 and 32000")


# --- trees -------------------------------------------------------------------------------------


def make_trees(root, names, templates):
    """Copies the templates, of which the first that has a file counts, and adds what cannot be kept
    in a repository."""
    for template in templates:
        for source in sorted(template.rglob("*")):
            target = root / source.relative_to(template)
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                # As the repository has it, whatever the umask of whoever cloned it made of that.
                program = source.stat().st_mode & 0o100
                write(target, fill(source, names), mode=0o755 if program else 0o644)

    app = root / "opt/applications/hosting-app"
    for path, text in {
        "node_modules/left-pad/index.js": "module.exports = (s, n) => String(s).padStart(n)\n",
        "node_modules/.package-lock.json": "{}\n",
        ".git/HEAD": "ref: refs/heads/main\n",
        ".git/objects/ab/cdef": "not really an object\n",
        "npm-debug.log": "0 info it worked if it ends with ok\n",
    }.items():
        write(app / path, text)
    folder(app / "uploads", 0o770)
    chown(app / "uploads", "www-data")
    os.symlink("lib/stats.py", app / "stats.py")

    compose = root / "opt/docker-compose"
    write(compose / "hosting/.env", "DB_NAME=hosting_db\nDB_USER=hosting_user\n", mode=0o600)
    write(compose / "monitoring/.env", "GF_SERVER_ROOT_URL=http://127.0.0.1:3001\n", mode=0o600)
    os.symlink("hosting", compose / "current")
    nginx = root / "mnt/nfs/nginx"
    # As in the web server's usual image: a link that leads out of the tree, to a known place.
    os.symlink("/usr/lib/nginx/modules", nginx / "modules")
    write(nginx / "ssl/README", "certificates go here\n")
    write(nginx / "ssl/example.key", "not a real key\n", mode=0o600)
    folder(root / "mnt/nfs/monitoring/empty", 0o750)


# --- volumes -----------------------------------------------------------------------------------


def make_volumes(root, volume_mb):
    noise = random.Random(20240215)
    prometheus(root / "volumes/prometheus_data", volume_mb, noise)
    grafana(root / "volumes/grafana_data", noise)
    nginx_logs(root / "volumes/nginx_logs")
    volume = root / "volumes/nginx_cache"
    folder(volume, 0o750)
    chown(volume, "www-data")
    # nginx deletes whatever it does not know below the folder that it caches in, hidden folders
    # included; that folder is therefore inside the volume, not the volume itself.
    folder(volume / "proxy", 0o700)
    chown(volume / "proxy", "www-data")
    write(volume / ".keep", "")
    folder(root / "volumes/redis_data", 0o750)
    chown(root / "volumes/redis_data", "redis")


def prometheus(volume, volume_mb, noise):
    """Blocks, a write-ahead log, a lock file: owned by nobody, as the image's are."""
    volume.mkdir()
    write(volume / "lock", "", owner="nobody")
    write(volume / "queries.active", "\0" * 20001, owner="nobody")
    blocks = ["01HPK2Y7C0V3QZ8S4M5T6R7W8X", "01HPN9ZA1D2F3G4H5J6K7M8N9P"]
    for block in blocks:
        write(volume / block / "meta.json", '{"ulid": "%s", "version": 1}\n' % block)
        write(volume / block / "tombstones", b"\x01\x30\xba\x30\x01")
        write(volume / block / "index", noise.randbytes(40_000))
    for number in range(max(volume_mb, 1)):
        chunks = volume / blocks[number % 2] / "chunks"
        write(chunks / f"{number // 2 + 1:06}", noise.randbytes(1 << 20))
    for number in range(3):
        write(volume / "wal" / f"{number:08}", noise.randbytes(32_768), mode=0o640)
    write(volume / "chunks_head/000001", noise.randbytes(8_192))
    folder(volume / "snapshots", 0o700)
    own_all(volume, "nobody")


def grafana(volume, noise):
    folder(volume, 0o770)
    database = sqlite3.connect(volume / "grafana.db")
    with database:
        database.execute("CREATE TABLE dashboard (id INTEGER PRIMARY KEY, title TEXT, data BLOB)")
        database.executemany(
            "INSERT INTO dashboard (title, data) VALUES (?, ?)",
            [(f"Dashboard {n}", noise.randbytes(500)) for n in range(40)],
        )
    database.close()
    os.chmod(volume / "grafana.db", 0o640)
    write(volume / ".grafana-secret", "dotfile at the top\n", mode=0o600)
    write(volume / ".aws/.credentials", "dotfile in a dot folder\n", mode=0o400)
    write(volume / "plugins/clock/module.js", "define([], () => 1)\n")
    write(volume / "plugins/clock/.manifest", "hidden\n")
    write(volume / "png/name with blanks – ümläut.png", noise.randbytes(3_000))
    write(volume / "png/-starts-with-a-dash", "x\n")
    write(volume / "csv" / ("a-very-long-name-" * 9) / ("file-" * 20 + ".csv"), "1,2,3\n")
    write(volume / "run.sh", "#!/bin/sh\n", mode=0o755)
    folder(volume / "alerting", 0o1777)
    folder(volume / "empty", 0o711)
    os.symlink("plugins/clock", volume / "current-plugin")
    os.symlink("nothing-there", volume / ".dangling")
    os.symlink("../grafana.db", volume / "png/database-link")
    os.link(volume / "run.sh", volume / "plugins/run-again.sh")
    own_all(volume, 472)


def nginx_logs(volume):
    """Rotated logs; access.log and error.log come from nginx itself."""
    volume.mkdir()
    write(volume / "access.log.1", "127.0.0.1 - - GET / 200\n" * 300, mode=0o640)
    with open(volume / "access.log.2.gz", "wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
            packed.write(b"127.0.0.1 - - GET /old 200\n" * 5_000)
    write(volume / "error.log.1", "", mode=0o640)
    write(volume / "archive/2024-01/.index", "january\n", mode=0o600)
    own_all(volume, "www-data")


# --- Redis -------------------------------------------------------------------------------------


def fill_redis(settings, rows):
    redis = Redis(int(settings.REDIS_PORT), settings.secret("redis"), settings.REDIS_HOST)
    noise = random.Random(7)
    day = 86_400_000
    now = int(time.time() * 1000)
    commands = [("SELECT", 0), ("SET", "site:name", "hosting platform"), ("SET", "site:visits", 4711)]
    commands += [
        ("SET", f"session:{n}", f"user={1 + n % rows};token={noise.getrandbits(64):x}", "PXAT", now + day * 30 + n)
        for n in range(rows)
    ]
    commands += [
        ("SET", "binary", bytes(range(256)) * 4),
        ("SET", "large", noise.randbytes(200_000)),
        ("SET", b"key with blanks, \xc3\xbcml\xc3\xa4ut, \r\n and \xff", "odd name"),
        ("SETBIT", "bitmap", 1000, 1),
        ("PFADD", "visitors", *range(500)),
        ("RPUSH", "queue:mail", *[f"mail {n}" for n in range(2_000)]),
        ("RPUSH", "queue:small", "a", "b", "c"),
        ("SADD", "set:numbers", *range(100)),
        ("SADD", "set:words", *[f"word-{n}" for n in range(1_000)]),
        ("HSET", "hash:small", "name", "Zoë", "plan", "gold"),
        ("HSET", "hash:large", *[word for n in range(600) for word in (f"field{n}", f"value {n}")]),
        ("ZADD", "ranking", *[word for n in range(400) for word in (n * 1.5, f"player{n}")]),
        ("ZADD", "ranking:small", "-inf", "last", 0.1, "x", "+inf", "first"),
        ("GEOADD", "places", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"),
        ("PEXPIREAT", "hash:small", now + day * 90),
        ("PEXPIREAT", "queue:small", now + day * 365 + 123),
    ]
    commands += [("XADD", "events", f"1700000000000-{n}", "n", n, "what", "login") for n in range(1, 50)]
    commands += [
        ("XADD", "events", "1700000000000-50", "n", 50),
        ("XDEL", "events", "1700000000000-50"),
        ("XGROUP", "CREATE", "events", "workers", "1700000000000-5"),
        ("XREADGROUP", "GROUP", "workers", "worker-1", "COUNT", 3, "STREAMS", "events", ">"),
        ("SELECT", 1),
        *[("SET", f"cache:{n}", "x" * (n % 200), "PXAT", now + day * 7 + n) for n in range(rows // 2)],
        ("SELECT", 3),
        ("HSET", "jobs", "nightly", "2024-02-15", "hourly", "2024-02-14"),
        ("SELECT", 15),
        ("SET", "only-key-of-db-15", "still here"),
        ("FUNCTION", "LOAD", "#!lua name=hosting\nredis.register_function('double', function(k, a) return a[1] * 2 end)"),
    ]
    redis.batch(commands)
    redis.close()


# --- helpers -----------------------------------------------------------------------------------


def fill(source, names):
    text = source.read_text()
    for name, value in names.items():
        text = text.replace(f"@{name}@", value)
    return text


def write(path, content, mode=0o644, owner=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    if owner is not None:
        chown(path, owner)
    os.chmod(path, mode)


def folder(path, mode):
    path.mkdir()
    os.chmod(path, mode)


def chown(path, owner):
    """To a user by name, or to a uid that needs no user here (Grafana's image uses 472)."""
    if isinstance(owner, int):
        os.chown(path, owner, 0, follow_symlinks=False)
    else:
        entry = pwd.getpwnam(owner)
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def own_all(top, owner):
    chown(top, owner)
    for path in top.rglob("*"):
        chown(path, owner)


if __name__ == "__main__":
    main()
