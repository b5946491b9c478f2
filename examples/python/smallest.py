"""Restores the newest backup: smallest.py [restore.toml]

Raises where it does not succeed; the platform is then as it was.
"""

import sys

import restore

site = restore.Site.open(sys.argv[1] if len(sys.argv) > 1 else "restore.toml")
with restore.stop_on_signals():  # SIGTERM undoes the run, as Ctrl-C does anyway
    print(site.plan("latest").run())
