"""For cron: reads the newest backup to its end, and says by its exit code whether it would restore.

    nightly_verification.py [restore.toml]

Exits 0 where every file is what the manifest says and could be read to its end, and where nothing
stands in the way of restoring it; else 1, with one line on stderr for each reason. Changes nothing.
"""

from __future__ import annotations

import sys
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


def main(config: str) -> int:
    try:
        found = reasons(restore.Site.open(config))
    except restore.RestoreError as error:
        found = [f"{error} ({error.hint})" if error.hint else str(error)]
    for reason in found:
        print(reason, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "restore.toml"))
