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
name ends in ``_async``, for asyncio, and each long one gives a handle: ``start_…``.
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
from ._config import Secret
from ._difference import Changes, ComponentDifference, Difference, SiteDifference
from ._errors import (
    ConfigError,
    FailedError,
    InternalError,
    LockedError,
    MissingFileError,
    NotFoundError,
    PreflightError,
    RestoreError,
    StoppedError,
    StuckError,
    TimedOutError,
    VerificationError,
)
from ._events import (
    Action,
    BackupFinished,
    BackupStarted,
    CheckMade,
    DowntimeEnded,
    DowntimeStarted,
    Event,
    EventPhase,
    Noticed,
    OtherEvent,
    Phase,
    Progress,
    RunEnd,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
)
from ._log import log_event
from ._members import BackupMember, GetReport, Gotten, Members
from ._parts import Check, Hook, HookMoment, HookNotice, HookSubject, Maintenance, Store
from ._plan import EarlierRun, Plan, PlannedComponent, PlannedSafety, PlannedService, Step
from ._report import (
    ComponentReport,
    Failure,
    Made,
    Outcome,
    Report,
    SafetyBackup,
    ServiceDown,
    StepTime,
)
from ._restore import __version__, stop_all as _stop_all
from ._run import CallState, Events, ProgressUpdates, Run, RunProgress
from ._signals import stop_on_signals
from ._site import Site
from ._site_base import BackupName, RunName
from ._status import (
    ConfigCheck,
    ConfigFinding,
    KeptData,
    LastDrill,
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
    Compression,
    FetchReport,
    Pruned,
    PrunePlan,
)
from ._target import Moment, RecoveryTarget
from ._task import OnEvent, OnEventAsync
from ._values import (
    BackupFile,
    BackupKind,
    BackupRecovery,
    CheckOutcome,
    FileStatus,
    Finding,
    ListedBackup,
    Manifest,
    ManifestEntry,
    MissingComponent,
    Recoverable,
    Severity,
    Verdict,
    Verification,
    WalGap,
)

# A program that ends in the middle of a run waits for its undo.
_atexit.register(_stop_all)

__all__ = [
    "Action",
    "BackedUp",
    "BackedUpComponent",
    "Backup",
    "BackupContext",
    "BackupFile",
    "BackupFinished",
    "BackupKind",
    "BackupMember",
    "BackupName",
    "BackupRecovery",
    "BackupReport",
    "BackupStarted",
    "Backups",
    "CallState",
    "Changes",
    "Check",
    "CheckMade",
    "CheckOutcome",
    "Component",
    "ComponentDifference",
    "ComponentReport",
    "Compression",
    "ConfigCheck",
    "ConfigError",
    "ConfigFinding",
    "Difference",
    "DowntimeEnded",
    "DowntimeStarted",
    "EarlierRun",
    "Event",
    "EventPhase",
    "Events",
    "FailedError",
    "Failure",
    "FetchReport",
    "FileStatus",
    "Finding",
    "GetReport",
    "Gotten",
    "Hook",
    "HookMoment",
    "HookNotice",
    "HookSubject",
    "Inspection",
    "InternalError",
    "KeptData",
    "LastDrill",
    "ListedBackup",
    "LockedError",
    "Made",
    "Maintenance",
    "Manifest",
    "ManifestEntry",
    "Members",
    "MissingComponent",
    "MissingFileError",
    "Moment",
    "Need",
    "NewestBackup",
    "NotFoundError",
    "Noticed",
    "OnEvent",
    "OnEventAsync",
    "OtherEvent",
    "Outcome",
    "Phase",
    "Plan",
    "PlannedComponent",
    "PlannedSafety",
    "PlannedService",
    "PreflightError",
    "Progress",
    "ProgressUpdates",
    "ProvenBackup",
    "PrunePlan",
    "Pruned",
    "Recoverable",
    "RecoveryTarget",
    "Report",
    "RestoreError",
    "Room",
    "Run",
    "RunContext",
    "RunEnd",
    "RunFinished",
    "RunName",
    "RunProgress",
    "RunStarted",
    "SafetyBackup",
    "Secret",
    "ServiceDown",
    "Severity",
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
    "Store",
    "StoreStatus",
    "StuckError",
    "TimedOutError",
    "UnfinishedRun",
    "Verdict",
    "Verification",
    "VerificationError",
    "WalGap",
    "__version__",
    "log_event",
    "stop_on_signals",
]
