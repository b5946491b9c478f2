#!/usr/bin/python3
"""Prints what a platform holds, as text that is equal if and only if the content is equal.

    fingerprint.py ROOT [--anew]      one section for each component, `=== NAME DIGEST ===` first;
                                      --anew: without what is another one on a new engine, and what
                                      no backup has
    fingerprint.py --compare A B      two such texts, component by component; exit 1 if any differs

Called by `platform fingerprint`, which tells `docker` by its environment which engine to ask. As
the local platform's, whose code does the work, and, besides: what the images' tags point to; the
services with their replicas and what really runs; and, in `untouched`, the volumes and secrets that
exist at all. Left out is what a running Prometheus rewrites.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SIBLING = Path(__file__).resolve().parent.parent / "local-platform"
sys.dont_write_bytecode = True
sys.path.insert(0, str(SIBLING))

import fingerprint as common  # noqa: E402

VOLUMES = {
    "prometheus": "prometheus_data",
    "grafana": "grafana_data",
    "nginx-logs": "hosting_nginx_logs",
    "nginx-cache": "hosting_nginx_cache",
}
DECOYS = ["grafana_data_old", "hosting_redis_data_before"]
# Written by servers while they run.
VOLATILE = {
    "nginx-logs": {"access.log", "error.log"},
    "prometheus": {"wal", "chunks_head", "queries.active", "lock"},
}
SERVICE = "com.docker.swarm.service.name"


def main(arguments):
    if len(arguments) == 3 and arguments[0] == "--compare":
        return common.compare(arguments[1], arguments[2])
    anew = arguments[1:] == ["--anew"]
    if len(arguments) != 1 + anew or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    common.show(sections(Path(arguments[0]).resolve(), anew))
    return 0


def sections(root, anew):
    import fingerprint_databases as databases

    from settings import Settings

    settings = Settings(root)
    # Where they are reached may be the containers' own addresses.
    for name in ["PG_HOST", "PG_PORT", "REDIS_HOST", "REDIS_PORT"]:
        setattr(settings, name, os.environ[name])
    nodes = Nodes(Path(settings.ENGINE))
    yield "postgres", databases.postgres(settings, settings.PG_DATABASE)
    yield "redis", databases.redis(settings)
    for name, volume in VOLUMES.items():
        yield name, nodes.volume(volume, VOLATILE.get(name, set()))
    for name, folder in common.TREES.items():
        yield name, common.files(root / folder, common.NOT_BACKED_UP.get(folder, set()))
    yield "crontab", common.text_file(root / "crontab")
    yield "images", nodes.images()
    yield "services", nodes.services()
    yield "untouched", untouched(root, settings, databases, nodes, anew)


def untouched(root, settings, databases, nodes, anew):
    lines = databases.postgres(settings, "metrics_db") + databases.cluster(settings)
    for folder, names in common.NOT_BACKED_UP.items():
        for name in sorted(names):
            lines += common.files(root / folder / name, set())
    lines += common.files(root / "secrets", set())
    for name in DECOYS if not anew else []:
        lines += nodes.volume(name, set())
    return lines + nodes.inventory(anew)


class Nodes:
    """The engines, the manager's first."""

    def __init__(self, engine):
        self.sockets = [engine / "docker.sock", *sorted(engine.glob("workers/*/docker.sock"))]

    def ask(self, socket, *arguments):
        answer = subprocess.run(
            ["docker", *arguments],
            env={**os.environ, "DOCKER_HOST": f"unix://{socket}"},
            stdout=subprocess.PIPE,
            check=True,
        )
        return answer.stdout.decode().splitlines()

    def volume(self, name, skip):
        """A volume's content, on whichever node it is: a worker's folders are its own."""
        for socket in self.sockets:
            if name in self.ask(socket, "volume", "ls", "-q"):
                data = socket.parent / "data/volumes" / name / "_data"
                return [line.replace("_data", name, 1) for line in common.files(data, skip)]
        return [f"{name}: not there"]

    def images(self):
        lines = []
        for number, socket in enumerate(self.sockets):
            found = self.ask(socket, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
            # A run's own names are what it keeps, as its hidden folders are.
            found = [line for line in found if "<none>" not in line and not line.startswith("restore/")]
            lines += [f"node {number}: {line}" for line in sorted(found)]
        return lines

    def services(self):
        names = sorted(self.ask(self.sockets[0], "service", "ls", "--format", "{{.Name}}"))
        if not names:
            return []
        specs = json.loads("\n".join(self.ask(self.sockets[0], "service", "inspect", *names)))
        running = {}
        for socket in self.sockets:
            ids = self.ask(socket, "ps", "-q", "-f", f"label={SERVICE}")
            for one in json.loads("\n".join(self.ask(socket, "inspect", *ids))) if ids else []:
                running.setdefault(one["Config"]["Labels"][SERVICE], []).append(one["Image"])
        lines = []
        for service in specs:
            spec = service["Spec"]
            what = spec["TaskTemplate"]["ContainerSpec"]
            images = running.get(spec["Name"], [])
            lines.append(
                f"service {spec['Name']}: {json.dumps(spec['Mode'], sort_keys=True)} of {what['Image']};"
                f" {len(images)} run {' '.join(sorted(set(images)))}"
            )
        return lines

    def inventory(self, anew):
        """Named volumes and secrets: none may come or go."""
        lines = []
        for number, socket in enumerate(self.sockets):
            found = self.ask(socket, "volume", "ls", "-q")
            found = [name for name in found if not (anew and name in DECOYS)]
            # Nameless ones belong to a container each.
            lines += [f"volume {name} on node {number}" for name in sorted(found) if len(name) != 64]
        secret = "{{.Name}}" if anew else "{{.Name}} {{.ID}}"
        lines += [f"secret {line}" for line in sorted(self.ask(self.sockets[0], "secret", "ls", "--format", secret))]
        return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
