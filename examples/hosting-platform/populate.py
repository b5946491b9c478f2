#!/usr/bin/python3
"""Fills a new platform, step by step as `platform create` gets to them:

    populate.py files ROOT …      settings, secrets, trees
    populate.py volumes ROOT …    the volumes' content, at their mountpoints
    populate.py redis ROOT …      the keys

What both example platforms have in common is in ../local-platform/populate.py.
"""

import argparse
import os
import random
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIBLING = HERE.parent / "local-platform"
sys.dont_write_bytecode = True
sys.path.insert(0, str(SIBLING))

import populate as common  # noqa: E402
from settings import Settings  # noqa: E402

PORTS = ["HTTP_PORT", "HTTP_ALT_PORT", "PG_PORT", "REDIS_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"]


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files")
    files.add_argument("root", type=Path)
    files.add_argument("--engine", required=True)
    files.add_argument("--http-port", type=int, default=0)
    files.add_argument("--appendonly", choices=["yes", "no"], default="yes")
    files.add_argument("--closed", action="store_true")
    files.add_argument("--plain", action="store_true")
    files.add_argument("--grafana-node", default="")
    files.add_argument("--grafana-host", default="127.0.0.1")
    volumes = commands.add_parser("volumes")
    volumes.add_argument("root", type=Path)
    volumes.add_argument("--volume-mb", type=int, default=4)
    volumes.add_argument("mountpoints", nargs="+", metavar="VOLUME=MOUNTPOINT")
    keys = commands.add_parser("redis")
    keys.add_argument("root", type=Path)
    keys.add_argument("--rows", type=int, default=1000)
    keys.add_argument("--host", default="127.0.0.1")
    keys.add_argument("--port", type=int)
    arguments = parser.parse_args()
    os.umask(0o022)
    if arguments.command == "files":
        make_files(arguments)
    elif arguments.command == "volumes":
        make_volumes(arguments.volume_mb, dict(one.split("=", 1) for one in arguments.mountpoints))
    else:
        settings = Settings(arguments.root)
        settings.REDIS_HOST, settings.REDIS_PORT = arguments.host, arguments.port
        common.fill_redis(settings, arguments.rows)


def make_files(arguments):
    root = arguments.root
    for name in ["backups", "state", "log"]:
        (root / name).mkdir()
    common.folder(root / "secrets", 0o700)
    ports = common.pick_ports(PORTS, arguments.http_port)
    lines = ["# The platform in this folder, as the scripts of the example read it."]
    lines += [f"{name}={port}" for name, port in ports.items()]
    lines += [f"ENGINE={arguments.engine}", f"GRAFANA_HOST={arguments.grafana_host}"]
    lines += ["PG_USER=hosting_user", "PG_DATABASE=hosting_db"]
    lines += ["CLOSED=yes"] if arguments.closed else []
    common.write(root / "platform.env", "\n".join(lines) + "\n")

    passwords = {name: secrets.token_urlsafe(18) for name in ["postgres", "redis"]}
    for name, password in passwords.items():
        common.write(root / "secrets" / f"{name}.pass", password + "\n", mode=0o600)
    save = 'save ""\n' if arguments.appendonly == "yes" else "save 3600 1\n"
    common.write(
        root / "secrets/redis.conf",
        f"requirepass {passwords['redis']}\ndir /data\nappendonly {arguments.appendonly}\n"
        # With these a cache can be taken back to a moment as well.
        f"aof-timestamp-enabled yes\n{save}",
        mode=0o600,
    )

    def published(name, target):
        if arguments.closed:
            return ""
        return f"\n    ports:\n      - {{target: {target}, published: {ports[name]}, mode: host}}"

    node = arguments.grafana_node
    names = {
        "ROOT": str(root),
        "HERE": str(HERE),
        "ENGINE": arguments.engine,
        "DEFAULT_SERVER": "" if arguments.plain else " default_server",
        "PG_PORTS": published("PG_PORT", 5432),
        "REDIS_PORTS": published("REDIS_PORT", 6379),
        "PG_ENDPOINT": "# " if arguments.closed else "",
        "REDIS_ENDPOINT": "# " if arguments.closed else "",
        "GRAFANA_CONSTRAINT": f"node.hostname == {node}" if node else "node.role == manager",
        "GRAFANA_HOST": arguments.grafana_host,
        **{name: str(port) for name, port in ports.items()},
    }
    common.make_trees(root, names, [HERE / "template", SIBLING / "template"])
    common.write(root / "restore.toml", common.fill(HERE / "restore.toml.in", names))


def make_volumes(volume_mb, mountpoints):
    """An engine makes the mountpoints; what fills them makes its own."""
    noise = random.Random(20240215)
    fill = {
        "prometheus_data": lambda path: prometheus(path, volume_mb, noise),
        "grafana_data": lambda path: common.grafana(path, noise),
        "grafana_data_old": lambda path: decoy(path),
        "hosting_redis_data_before": lambda path: decoy(path),
        "hosting_nginx_logs": common.nginx_logs,
        "hosting_nginx_cache": nginx_cache,
    }
    for name, mountpoint in mountpoints.items():
        path = Path(mountpoint)
        path.rmdir()
        fill[name](path)


def prometheus(volume, volume_mb, noise):
    """A real server runs on this one. Its own data come from the image; a snapshot, which it never
    looks into, is there for the size."""
    volume.mkdir()
    block = volume / "snapshots/20240214T020000Z-4d65822107fcfd52/01HPK2Y7C0V3QZ8S4M5T6R7W8X"
    common.write(block / "meta.json", '{"ulid": "01HPK2Y7C0V3QZ8S4M5T6R7W8X", "version": 1}\n')
    common.write(block / "tombstones", b"\x01\x30\xba\x30\x01", mode=0o640)
    for number in range(max(volume_mb, 1)):
        common.write(block / f"chunks/{number + 1:06}", noise.randbytes(1 << 20))
    common.write(volume / ".retention", "for good\n", mode=0o600)
    common.own_all(volume, "nobody")


def nginx_cache(volume):
    common.folder(volume, 0o750)
    common.folder(volume / "proxy", 0o700)
    common.write(volume / ".keep", "")
    common.own_all(volume, "www-data")


def decoy(volume):
    """A volume that a name filter finds, and that nothing must touch."""
    volume.mkdir()
    common.write(volume / "precious", "not yours\n", mode=0o600)


if __name__ == "__main__":
    main()
