#!/usr/bin/python3
"""Prints what a platform holds, as text that is equal if and only if the content is equal.

    fingerprint.py ROOT [--anew]      one section for each component, `=== NAME DIGEST ===` first;
                                      --anew: without what is another one on a new engine
    fingerprint.py --compare A B      two such texts, component by component; exit 1 if any differs

Called by `platform fingerprint`, which tells `docker` by its environment which engine to ask. As the
local platform's, whose code does the work, and, besides: the containers, how each is described and
which run; and, in `untouched`, the volumes that exist at all.
"""

import json
import subprocess
import sys
from pathlib import Path

SIBLING = Path(__file__).resolve().parent.parent / "local-platform"
sys.dont_write_bytecode = True
sys.path.insert(0, str(SIBLING))

import fingerprint as common  # noqa: E402

VOLUMES = {
    "grafana": "monitoring_grafana_data",
    "nginx-logs": "hosting_nginx_logs",
    "nginx-cache": "hosting_nginx_cache",
}
# Written by nginx while it runs.
VOLATILE = {"nginx-logs": {"access.log", "error.log"}}
# What of a container is its description.
DESCRIPTION = ["Id", "Name", "Created", "Image", "Config", "HostConfig"]


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
    yield "postgres", databases.postgres(settings, settings.PG_DATABASE)
    yield "redis", databases.redis(settings)
    for name, volume in VOLUMES.items():
        data = Path(settings.ENGINE) / "data/volumes" / volume / "_data"
        lines = common.files(data, VOLATILE.get(name, set()))
        yield name, [line.replace("_data", volume, 1) for line in lines]
    for name, folder in common.TREES.items():
        yield name, common.files(root / folder, common.NOT_BACKED_UP.get(folder, set()))
    yield "crontab", common.text_file(root / "crontab")
    yield "containers", containers(anew)
    yield "untouched", untouched(root, settings, databases)


def untouched(root, settings, databases):
    lines = databases.postgres(settings, "metrics_db") + databases.cluster(settings)
    for folder, names in common.NOT_BACKED_UP.items():
        for name in sorted(names):
            lines += common.files(root / folder / name, set())
    lines += common.files(root / "secrets", set())
    return lines + [f"volume {name}" for name in sorted(docker("volume", "ls", "-q")) if len(name) != 64]


def docker(*arguments):
    answer = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, check=True)
    return answer.stdout.decode().splitlines()


def containers(anew):
    ids = docker("ps", "-aq", "--no-trunc")
    if not ids:
        return []
    found = sorted(json.loads("\n".join(docker("inspect", *ids))), key=lambda it: it["Name"])
    lines = []
    for it in found:
        if anew:
            lines.append(f"{it['Name']} {it['State']['Status']} of {it['Config']['Image']}")
            continue
        described = json.dumps({key: without_nothing(it[key]) for key in DESCRIPTION}, sort_keys=True)
        lines.append(f"{it['Name']} {it['State']['Status']} {described}")
    return lines


def without_nothing(value):
    """An engine that was restarted writes an empty list where it had none before."""
    if isinstance(value, dict):
        return {key: without_nothing(one) for key, one in value.items() if one not in (None, [], {}, "")}
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
