"""Drills the last backups, several at a time, each in a process of its own: in_processes.py [restore.toml]

A drill takes the site's lock, so `wait` has each wait for its turn; verifications run side by side.
`spawn`, because the library does not survive a fork.

The smallest of it:

    full = [it.id for it in site.backups().listed if it.kind == "full"]
    for id in full[-3:]:
        print(site.drill(id, wait=600).outcome)
"""

from __future__ import annotations

import multiprocessing
import sys

import restore


def verify(config: str, id: str) -> str:
    return f"{id}: {restore.Site.open(config).backup(id).verify(deep=True).verdict}"


def drill(config: str, id: str) -> str:
    return f"{id}: {restore.Site.open(config).drill(id, wait=600).outcome}"


def main(config: str) -> None:
    listed = restore.Site.open(config).backups().listed
    # Neither unfinished, damaged and partial ones, nor what other runs have saved; in several stores once.
    full = list(dict.fromkeys(it.id for it in listed if it.kind == "full"))
    ids = [(config, id) for id in full[-3:]]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for line in pool.starmap(verify, ids) + pool.starmap(drill, ids):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "restore.toml")
