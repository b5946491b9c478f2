"""Restores the newest backup. Raises where it does not succeed; the platform is then as it was."""

import sys

import restore

with restore.stop_on_signals():  # SIGTERM undoes the run, as Ctrl-C does anyway
    print(restore.Site.open(*sys.argv[1:2]).plan("latest").run())
