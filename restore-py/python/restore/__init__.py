"""Restore a hosting platform from plain backups: all or nothing, verified, with the old data kept
until confirmed.

::

    import restore

    site = restore.Site.open("restore.toml")
    plan = site.plan("latest")
    print(plan)                      # what would happen; nothing was touched
    report = plan.run(on_event=print)
    site.confirm(report.run)         # or site.rollback(report.run)

A run ends restored and checked, or it raises and the platform is as it was: a failure, Ctrl-C, a
cancelled task and an exception of ``on_event`` all undo it first. Every slow call has a twin whose
name ends in ``_async``, for asyncio.
"""

import atexit as _atexit

from ._backup import Backup, Backups
from ._component import (
    BackedUp,
    BackupContext,
    Component,
    Inspection,
    Need,
    RunContext,
    Staged,
)
from ._difference import Changes, ComponentDifference, Difference, SiteDifference
from ._errors import (
    ConfigError,
    FailedError,
    InternalError,
    LockedError,
    NotFoundError,
    PreflightError,
    RestoreError,
    StoppedError,
    StuckError,
    VerificationError,
)
from ._events import (
    BackupFinished,
    BackupStarted,
    CheckMade,
    DowntimeEnded,
    DowntimeStarted,
    Event,
    Noticed,
    OtherEvent,
    Progress,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
)
from ._members import BackupMember, GetReport, Gotten, Members
from ._plan import EarlierRun, Plan, PlannedComponent, PlannedSafety, PlannedService, Step
from ._report import ComponentReport, Failure, Made, Report, SafetyBackup, StepTime
from ._restore import __version__, stop_all as _stop_all
from ._run import Run
from ._site import Site
from ._status import (
    ConfigCheck,
    ConfigFinding,
    KeptData,
    NewestBackup,
    ProvenBackup,
    Room,
    SiteStatus,
    Space,
    StoreStatus,
    UnfinishedRun,
)
from ._store import (
    BackedUpComponent,
    BackupReport,
    FetchReport,
    Pruned,
    PrunePlan,
)
from ._target import RecoveryTarget
from ._values import (
    BackupFile,
    BackupKind,
    CheckOutcome,
    FileStatus,
    Finding,
    ListedBackup,
    Manifest,
    ManifestEntry,
    MissingComponent,
    Verification,
)

# A program that ends in the middle of a run waits for its undo.
_atexit.register(_stop_all)

__all__ = [
    "BackedUp",
    "BackedUpComponent",
    "Backup",
    "BackupContext",
    "BackupFile",
    "BackupFinished",
    "BackupKind",
    "BackupMember",
    "BackupReport",
    "BackupStarted",
    "Backups",
    "Changes",
    "CheckMade",
    "CheckOutcome",
    "Component",
    "ComponentDifference",
    "ComponentReport",
    "ConfigCheck",
    "ConfigError",
    "ConfigFinding",
    "Difference",
    "DowntimeEnded",
    "DowntimeStarted",
    "EarlierRun",
    "Event",
    "FailedError",
    "Failure",
    "FetchReport",
    "FileStatus",
    "Finding",
    "GetReport",
    "Gotten",
    "Inspection",
    "InternalError",
    "KeptData",
    "ListedBackup",
    "LockedError",
    "Made",
    "Manifest",
    "ManifestEntry",
    "Members",
    "MissingComponent",
    "Need",
    "NewestBackup",
    "NotFoundError",
    "Noticed",
    "OtherEvent",
    "Plan",
    "PlannedComponent",
    "PlannedSafety",
    "PlannedService",
    "PreflightError",
    "Progress",
    "ProvenBackup",
    "PrunePlan",
    "Pruned",
    "RecoveryTarget",
    "Report",
    "RestoreError",
    "Room",
    "Run",
    "RunContext",
    "RunFinished",
    "RunStarted",
    "SafetyBackup",
    "Site",
    "SiteDifference",
    "SiteStatus",
    "Space",
    "Staged",
    "Step",
    "StepFailed",
    "StepFinished",
    "StepStarted",
    "StepTime",
    "StoppedError",
    "StoreStatus",
    "StuckError",
    "UnfinishedRun",
    "Verification",
    "VerificationError",
    "__version__",
]
