#!/usr/bin/python3
"""Fills a new platform, step by step as `platform create` gets to them:

    populate.py files ROOT …      settings, secrets, trees
    populate.py volumes ROOT …    the volumes' content, at their mountpoints

What it has in common with the other example platforms is in ../local-platform and ../hosting-platform.
"""

import argparse
import os
import random
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOSTING = HERE.parent / "hosting-platform"
SIBLING = HERE.parent / "local-platform"
sys.dont_write_bytecode = True
sys.path.insert(0, str(SIBLING))

import populate as common  # noqa: E402

PORTS = ["HTTP_PORT", "HTTP_ALT_PORT", "PG_PORT", "REDIS_PORT", "GRAFANA_PORT"]


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files")
    files.add_argument("root", type=Path)
    files.add_argument("--http-port", type=int, default=0)
    files.add_argument("--redis-user", type=int, required=True)
    volumes = commands.add_parser("volumes")
    volumes.add_argument("root", type=Path)
    volumes.add_argument("--volume-mb", type=int, default=4)
    volumes.add_argument("mountpoints", nargs="+", metavar="VOLUME=MOUNTPOINT")
    arguments = parser.parse_args()
    os.umask(0o022)
    if arguments.command == "files":
        make_files(arguments)
    else:
        make_volumes(arguments.volume_mb, dict(one.split("=", 1) for one in arguments.mountpoints))


def make_files(arguments):
    root = arguments.root
    for name in ["backups", "state", "log"]:
        (root / name).mkdir()
    common.folder(root / "secrets", 0o700)
    ports = common.pick_ports(PORTS, arguments.http_port)
    lines = ["# The platform in this folder, as the scripts of the example read it."]
    lines += [f"{name}={port}" for name, port in ports.items()]
    lines += [f"ENGINE={root}/engine", "PG_USER=hosting_user", "PG_DATABASE=hosting_db"]
    common.write(root / "platform.env", "\n".join(lines) + "\n")

    passwords = {name: secrets.token_urlsafe(18) for name in ["postgres", "redis"]}
    for name, password in passwords.items():
        common.write(root / "secrets" / f"{name}.pass", password + "\n", mode=0o600)
    common.write(
        root / "secrets/redis.conf",
        f"requirepass {passwords['redis']}\ndir /data\nappendonly yes\nsave \"\"\n",
        mode=0o600,
        owner=arguments.redis_user,
    )
    names = {
        "ROOT": str(root),
        "DEFAULT_SERVER": " default_server",
        **{name: str(port) for name, port in ports.items()},
    }
    common.make_trees(root, names, [HERE / "template", HOSTING / "template", SIBLING / "template"])
    # Of the swarm's.
    (root / "opt/scripts/monitoring.sh").unlink()
    (root / "opt/docker-compose/hosting/docker-compose.prod.yml").unlink()
    common.write(root / "restore.toml", common.fill(HERE / "restore.toml.in", names))


def make_volumes(volume_mb, mountpoints):
    """An engine makes the mountpoints; what fills them makes its own."""
    noise = random.Random(20240215)
    fill = {
        "grafana_data": lambda path: grafana(path, volume_mb, noise),
        "nginx_logs": common.nginx_logs,
        "nginx_cache": nginx_cache,
    }
    for name, mountpoint in mountpoints.items():
        path = Path(mountpoint)
        path.rmdir()
        fill[name](path)


def grafana(volume, volume_mb, noise):
    common.grafana(volume, noise)
    # For the size.
    for number in range(max(volume_mb, 1)):
        common.write(volume / f"png/{number:06}.png", noise.randbytes(1 << 20))
    common.own_all(volume, 472)


def nginx_cache(volume):
    common.folder(volume, 0o750)
    common.folder(volume / "proxy", 0o700)
    common.write(volume / ".keep", "")
    common.own_all(volume, "www-data")


if __name__ == "__main__":
    main()
