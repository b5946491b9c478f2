#!/usr/bin/python3
"""Prints what a platform holds, as text that is equal if and only if the content is equal.

    fingerprint.py ROOT               one section for each component, `=== NAME DIGEST ===` first
    fingerprint.py --compare A B      two such texts, component by component; exit 1 if any differs

Rows, keys and files are shown as digests, in an order that does not depend on where they lie.
Left out is what a running platform changes by itself or a restore keeps aside: the logs that nginx
writes to right now, and hidden folders named `.restore-*`. The last section, `untouched`, is what
no component of restore.toml owns: it must never change.
"""

import grp
import hashlib
import os
import pwd
import stat
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

VOLUMES = {
    "prometheus": "volumes/prometheus_data",
    "grafana": "volumes/grafana_data",
    "nginx-logs": "volumes/nginx_logs",
    "nginx-cache": "volumes/nginx_cache",
}
TREES = {
    "docker-compose": "opt/docker-compose",
    "nginx-config": "mnt/nfs/nginx",
    "prometheus-config": "mnt/nfs/monitoring",
    "scripts": "opt/scripts",
    "applications": "opt/applications/hosting-app",
}
# Written by nginx while it runs.
VOLATILE = {"volumes/nginx_logs": {"access.log", "error.log"}}
# Left out of the backup of the application.
NOT_BACKED_UP = {"opt/applications/hosting-app": {"node_modules", ".git", "npm-debug.log"}}


def main(arguments):
    if len(arguments) == 3 and arguments[0] == "--compare":
        return compare(arguments[1], arguments[2])
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    root = Path(arguments[0]).resolve()
    show(sections(root))
    return 0


def show(parts):
    out = []
    for name, lines in parts:
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
        out.append(f"=== {name} {digest} ===")
        out += lines
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    print("\n".join(out))


def sections(root):
    import fingerprint_databases as databases

    from settings import Settings

    settings = Settings(root)
    yield "postgres", databases.postgres(settings, settings.PG_DATABASE)
    yield "redis", databases.redis(settings)
    for name, folder in {**VOLUMES, **TREES}.items():
        skip = VOLATILE.get(folder, set()) | NOT_BACKED_UP.get(folder, set())
        yield name, files(root / folder, skip)
    yield "crontab", text_file(root / "crontab")
    yield "untouched", untouched(root, settings, databases)


def untouched(root, settings, databases):
    lines = databases.postgres(settings, "metrics_db") + databases.cluster(settings)
    for folder, names in NOT_BACKED_UP.items():
        for name in sorted(names):
            lines += files(root / folder / name, set())
    for folder in ["secrets", "etc"]:
        lines += files(root / folder, set())
    return lines


# --- files -------------------------------------------------------------------------------------


def files(top, skip):
    """Every entry below `top`, itself included: kind, mode, owner, links, content or target."""
    lines = []
    inodes = {}

    def show(path, name):
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            lines.append(f"{name}: not there")
            return
        # A tree that did not exist, and holds what a restore keeps aside and nothing else.
        if path == str(top) and stat.S_ISDIR(info.st_mode):
            entries = os.listdir(path)
            if entries and all(entry.startswith(".restore-") for entry in entries):
                lines.append(f"{name}: not there")
                return
        kind = stat.S_IFMT(info.st_mode)
        start = f"{name}: {stat.filemode(info.st_mode)} {owner(info)}"
        if kind == stat.S_IFDIR:
            lines.append(start)
            for entry in sorted(os.listdir(path)):
                if entry.startswith(".restore-") or (path == str(top) and entry in skip):
                    continue
                show(os.path.join(path, entry), f"{name}/{printable(entry)}")
        elif kind == stat.S_IFREG:
            same = inodes.setdefault(info.st_ino, name) if info.st_nlink > 1 else name
            shared = f" same file as {same}" if same != name else ""
            lines.append(f"{start} {info.st_size} {content(path)}{shared}")
        elif kind == stat.S_IFLNK:
            lines.append(f"{start} -> {printable(os.readlink(path))}")
        else:
            lines.append(start)

    show(str(top), top.name)
    return lines


def content(path):
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_file(path):
    return files(path, set()) + path.read_text().splitlines() if path.exists() else files(path, set())


def printable(name):
    return name.replace("\\", "\\\\").replace("\n", "\\n")


_names = {}


def owner(info):
    """`user:group`, numbers where this machine has no name for them."""
    key = (info.st_uid, info.st_gid)
    if key not in _names:
        try:
            user = pwd.getpwuid(info.st_uid).pw_name
        except KeyError:
            user = str(info.st_uid)
        try:
            group = grp.getgrgid(info.st_gid).gr_name
        except KeyError:
            group = str(info.st_gid)
        _names[key] = f"{user}:{group}"
    return _names[key]


# --- comparing ---------------------------------------------------------------------------------


def compare(first, second):
    before, after = read(first), read(second)
    differing = 0
    for name in list(before) + [name for name in after if name not in before]:
        old, new = before.get(name, []), after.get(name, [])
        if old == new:
            print(f"  {name:<18} equal      {len(old)} things compared")
            continue
        differing += 1
        gone, came = set(old) - set(new), set(new) - set(old)
        example = min(gone | came, default="the order of its lines")
        print(f"  {name:<18} different  {len(gone)} gone or changed, {len(came)} new or changed; {example[:70]}")
    return 1 if differing else 0


def read(path):
    parts, lines = {}, []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file.read().split("\n"):
            if line.startswith("=== ") and line.endswith(" ==="):
                lines = parts.setdefault(line.split()[1], [])
            elif line:
                lines.append(line)
    return parts


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(sys.argv[1:]))
