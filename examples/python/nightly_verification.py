"""For cron: reads the newest backup to its end, and says by its exit code whether it would restore.

    nightly_verification.py [restore.toml [http://chat.example.com/webhook]]

The smallest of it:

    restore.Site.open().backup("latest").verify(deep=True).raise_if_failed()

Tells the webhook, where one is given, what is wrong. Exits 0 where every file is what the manifest says and could be read to its end, and where nothing
stands in the way of restoring it; else 1, with one line on stderr for each reason. Changes nothing.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from datetime import datetime, timedelta, timezone

import restore

OLDEST = timedelta(hours=26)


def reasons(site: restore.Site) -> list[str]:
    """Why the newest backup could not be relied on."""
    backup = site.backup("latest")
    found = []
    age = datetime.now(timezone.utc) - backup.taken
    if age > OLDEST:
        found.append(f"the newest backup is {backup.id}, {age} old")
    verification = backup.verify(deep=True)
    if not verification.deeply_verified:
        found.append(f"backup {backup.id} is {verification.verdict}, or not all of it could be read")
    found += [str(finding) for finding in verification.findings if finding.severity != "info"]
    # What preflight would refuse tonight it would refuse at three in the morning too.
    plan = site.plan(backup)
    found += [str(finding) for finding in plan.findings if finding.severity == "error"]
    if not found:
        print(f"{backup.id}: {len(verification.files)} files, {verification.bytes} bytes read: sound")
    return found


def announce(webhook: str, found: list[str]) -> None:
    """A message as chats take it."""
    body = json.dumps({"text": "\n".join(["The newest backup is not sound:", *found])}).encode()
    request = urllib.request.Request(webhook, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30):
        pass


def main(config: str, webhook: str = "") -> int:
    try:
        found = reasons(restore.Site.open(config))
    except restore.RestoreError as error:
        found = [f"{error} ({error.hint})" if error.hint else str(error)]
    for reason in found:
        print(reason, file=sys.stderr)
    if found and webhook:
        announce(webhook, found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["restore.toml"])))
