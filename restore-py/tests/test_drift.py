"""What the Rust library has and says, this module has and says: by its sources, which stand beside."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import restore
from conftest import REPOSITORY
from restore import _errors, _report
from restore._hints import here

CORE = REPOSITORY / "restore-core" / "src"
SOURCES = {path: path.read_text() for path in sorted(CORE.rglob("*.rs"))}

# What a request in Rust has that is called otherwise here, or (None) is no argument of that call.
REQUESTS: list[tuple[str, Callable[..., Any], dict[str, Optional[str]]]] = [
    (
        "PlanRequest",
        restore.Site.plan,
        {
            "restore_as": "as_",
            "target": "to",
            "no_maintenance": "maintenance",
            "no_safety_backup": "safety_backup",
            "drill": None,  # Site.drill
            "nothing": None,
        },
    ),
    ("BackupRequest", restore.Site.back_up, {"nothing": None}),
    ("PruneRequest", restore.Site.plan_prune, {}),
    ("MembersRequest", restore.Site.members, {"nothing": None}),
    ("GetRequest", restore.Site.get, {"no_owner": "owners", "keep_powers": "keep_setuid"}),
    # A site's own are what a backup is opened with.
    ("VerifyOptions", restore.Backup.verify, {"tools": None, "policies": None}),
    (
        "FetchOptions",
        restore.Site.fetch,
        {
            "from": "from_store",
            "to": "to_store",
            "events": "on_event",
            "cancel": None,  # Run.cancel
            "jobs": None,
            "tries": None,
        },
    ),
]

# The same of values; what is left out here is what only the report's text is made of.
TEXT_ONLY = dict.fromkeys(
    ["asked_back", "confirming", "keeps_restored", "replaced_nothing", "turned_back"]
)
KEPT = dict.fromkeys(["kept", "kept_bytes", "kept_unsure", "left_alone"])
VALUES: list[tuple[str, type, dict[str, Optional[str]]]] = [
    ("BackedUpComponent", restore.BackedUpComponent, {}),
    ("BackupFile", restore.BackupFile, {}),
    ("BackupMember", restore.BackupMember, {}),
    ("BackupReport", restore.BackupReport, {}),
    ("Changes", restore.Changes, {}),
    ("CheckOutcome", restore.CheckOutcome, {}),
    ("ComponentDifference", restore.ComponentDifference, {}),
    ("ComponentReport", restore.ComponentReport, KEPT),
    ("Difference", restore.Difference, {}),
    ("EarlierRun", restore.EarlierRun, {}),
    ("Failure", restore.Failure, {}),
    ("Finding", restore.Finding, {"bearing": None}),
    ("FetchReport", restore.FetchReport, {"from": "from_store", "to": "to_store"}),
    ("GetReport", restore.GetReport, {}),
    ("Gotten", restore.Gotten, {}),
    ("Hole", restore.WalGap, {}),
    ("HookNotice", restore.HookNotice, {}),
    ("KeptData", restore.KeptData, {}),
    ("LastDrill", restore.LastDrill, {}),
    ("ListedBackup", restore.ListedBackup, {"summary": "created", "packed": "bytes"}),
    ("Made", restore.Made, {}),
    ("MissingComponent", restore.MissingComponent, {"code": None, "never": None}),
    ("NewestBackup", restore.NewestBackup, {}),
    ("PlannedSafety", restore.PlannedSafety, {}),
    ("PlannedService", restore.PlannedService, {}),
    ("ProvenBackup", restore.ProvenBackup, {}),
    ("Pruned", restore.Pruned, {}),
    ("Recoverable", restore.Recoverable, {"from": "from_"}),
    ("Report", _report._Report, TEXT_ONLY),
    ("Room", restore.Room, {}),
    ("RunProgress", restore.RunProgress, {}),
    ("SafetyBackup", restore.SafetyBackup, {}),
    ("ServiceDown", restore.ServiceDown, {}),
    ("SiteDifference", restore.SiteDifference, {}),
    ("SiteStatus", restore.SiteStatus, {}),
    ("Space", restore.Space, {}),
    ("StepTime", restore.StepTime, {}),
    ("StoreStatus", restore.StoreStatus, {}),
    ("UnfinishedRun", restore.UnfinishedRun, {}),
]

# Calls of a site in Rust that have no method of that name here, and what there is instead.
ELSEWHERE = {
    "backup_for": "plan(to=…)",
    "begin": "start_…",
    "component": "components",
    "ensure_idle_here": "ensure_idle",
    "from_config": "Site(config)",
    "lacking": "ListedBackup.lacking",
    "listing": "backups, which raises where a store cannot be listed",
    "newer_damaged": "ListedBackup.problem",
    "open_with": "Site.open(components=…)",
    "plan_with": "plan",
    "prune": "PrunePlan.run",
    "run": "Plan.run",
    "search": "the command `restore history --search`",
    "start_what_is_needed": "Plan.run, which does so",
    "store": "stores",
    "tell_refused_drill": "Site.drill, which does so",
    "unread_runs": "Site.status, which tells them",
    "verify": "Backup.verify",
    "with_maintenance": "Site.open(maintenance=…)",
    "with_platform": "nothing yet",
    "with_store": "Site.open(stores=…)",
}
HANDLES = {
    "attach": "Site.attach",
    "cancelled_by": "Run.cancel",
    "events": "on_event",
    "options": "arguments",
    "run": "Plan.start",
    "sink": "on_event",
    "verify": "Backup.start_verify",
    "wait": "wait=…",
    "wait_seconds": "wait=…",
}


def body(head: str) -> str:
    """What stands between the braces of the one item that begins so."""
    pattern = re.compile(rf"^{re.escape(head)} {{\n(.*?)^}}", re.M | re.S)
    found = [match for text in SOURCES.values() for match in pattern.findall(text)]
    assert len(found) == 1, f"{head}: {len(found)} of them"
    return str(found[0])


def variants(head: str) -> set[str]:
    names = re.findall(r"^    ([A-Z]\w*)", body(head), re.M)
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names}


def fields(name: str) -> list[str]:
    pattern = r"^    (?:pub(?:\([a-z]+\))? )?([a-z_0-9]+):"
    return re.findall(pattern, body(f"pub struct {name}"), re.M)


@pytest.mark.parametrize(
    "name, words",
    [
        ("BackupKind", restore.BackupKind),
        ("CallState", restore.CallState),
        ("Compression", restore.Compression),
        ("Outcome", restore.Outcome),
        ("Phase", restore.EventPhase),
        ("Severity", restore.Severity),
        ("Verdict", restore.Verdict),
    ],
)
def test_words_are_the_library_s(name: str, words: Any) -> None:
    assert set(typing.get_args(words)) == variants(f"pub enum {name}")


def test_words_of_hooks_are_the_library_s() -> None:
    for name, words in (("HookMoment", restore.HookMoment), ("HookSubject", restore.HookSubject)):
        known = {word.replace("-", "_") for word in typing.get_args(words)}
        assert known == variants(f"pub enum {name}")


def test_words_of_events_and_errors_are_the_library_s() -> None:
    assert set(_errors._KINDS) == variants("pub enum ErrorKind")
    kinds = {event.kind for event in restore.Event.__subclasses__()}
    assert kinds == variants("pub enum Event") | {restore.OtherEvent.kind}
    phases = set(typing.get_args(restore.Phase))
    assert phases == set(typing.get_args(restore.EventPhase)) - {"undo"}
    # What takes the lock for anything but a run tells no run's events.
    actions = variants("pub(crate) enum Action") - {"page", "backup", "prune"}
    assert set(typing.get_args(restore.Action)) == actions | {"drill"}
    outcomes = {outcome.replace("_", " ") for outcome in typing.get_args(restore.Outcome)}
    ends = (outcomes - {"unfinished"}) | {"confirmed"}
    assert set(typing.get_args(restore.RunEnd)) == ends


@pytest.mark.parametrize("name, call, renamed", REQUESTS)
def test_what_can_be_asked_for_is_an_argument(
    name: str, call: Callable[..., Any], renamed: dict[str, Optional[str]]
) -> None:
    known = fields(name)
    assert set(renamed) <= set(known), "left out is what there is not"
    wanted = {renamed.get(field, field) for field in known} - {None}
    assert wanted <= set(inspect.signature(call).parameters)


@pytest.mark.parametrize("name, value, renamed", VALUES)
def test_what_is_told_is_a_field(
    name: str, value: type, renamed: dict[str, Optional[str]]
) -> None:
    known = fields(name)
    assert set(renamed) <= set(known), "left out is what there is not"
    wanted = {renamed.get(field, field) for field in known} - {None}
    assert wanted <= {field.name for field in dataclasses.fields(value)}


def test_what_a_site_can_be_asked_is_a_method() -> None:
    listing = (REPOSITORY / "docs" / "public-api.txt").read_text()

    def public(of: str) -> set[str]:
        return set(re.findall(rf"^pub (?:async )?fn {of}::(\w+)[(<]", listing, re.M))

    calls, handles = public("restore_core::Site"), public("restore_core::run::Begin")
    assert {"plan", "recoverable"} <= calls and {"back_up", "fetch"} <= handles
    assert {name for name in calls if not hasattr(restore.Site, name)} == set(ELSEWHERE)
    missing = {name for name in handles if not hasattr(restore.Site, f"start_{name}")}
    assert missing == set(HANDLES)


def test_what_a_site_is_made_of_may_be_written_here() -> None:
    listing = (REPOSITORY / "docs" / "public-api.txt").read_text()
    kinds = set(re.findall(r"fn restore_core::component::Registry::with_(\w+)\(", listing))
    arguments = set(inspect.signature(restore.Site.open).parameters) - {"path", "components"}
    # A platform has too many methods to be called one by one.
    assert {kind.removesuffix("s") for kind in arguments} == kinds - {"platform"}


LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# Of other programs, and of what the command line alone can do.
OTHERS = {
    "--clean",
    "--constraint-add",
    "--data-only",
    "--decrypt",
    "--file",
    "--if-exists",
    "--no-owner",
    "--output",
    "--preserve-env",
    "--print",
    "--rm",
    "--section",
    "--signed-by",
    "--stop-grace-period",
}
PROGRAM_ALONE = {"history", "init"}


def given_hints(text: str) -> list[str]:
    """The literals in the parentheses behind each `.hint(`, with a number for what is put into them."""
    code = re.sub(r"^\s*//.*$", "", text.split("#[cfg(test)]\nmod tests")[0], flags=re.M)
    found = []
    for call in re.finditer(r"\.hint\(", code):
        at, depth = call.end(), 1
        while depth > 0:
            literal = LITERAL.match(code, at)
            if literal is not None:
                plain = re.sub(r"\\\n\s*", "", literal[1]).replace('\\"', '"')
                found.append(re.sub(r"\{[^}]*\}", "7", plain))
                at = literal.end()
                continue
            character = code[at : at + 3] if code[at] == "'" and code[at + 2] == "'" else code[at]
            depth += {"(": 1, ")": -1}.get(character, 0)
            at += len(character)
    return found


def test_no_hint_names_an_option_of_the_command_line() -> None:
    hints = {path: given_hints(text) for path, text in SOURCES.items()}
    assert sum(len(of) for of in hints.values()) > 300
    wrong = []
    for path, of in hints.items():
        for hint in of:
            words = here(hint)
            assert words is not None and here(words) == words, hint
            spans = re.findall(r"`([^`]*)`", words)
            commands = [span.split()[1] for span in spans if span.startswith("restore ")]
            left = set(FLAG.findall(re.sub(r"`[^`]*`", "", words))) - OTHERS
            if left or set(commands) - PROGRAM_ALONE:
                wrong.append(f"{path.relative_to(CORE)}: {words}")
    assert wrong == []


@pytest.mark.parametrize(
    "typed, called",
    [
        ("`restore show 7 --files --only db`", '`site.members(7, only="db")`'),
        ("`restore show ID` or `restore show ID --files`", "`site.backup(ID)` or `site.members(ID)`"),
        ("`restore verify --deep` reads all", "`site.backup(ID).verify(deep=True)` reads all"),
        ("`restore fetch 7 --to STORE`", "`site.fetch(7, to_store=STORE)`"),
        ("fetch it with --from, or into another with --to", "fetch it with from_store=…, or into another with to_store=…"),
        ("write to another store with --to", "write to another store with to=…"),
        ("--to latest takes what is there", 'to="latest" takes what is there'),
        ("`restore get 7 app.conf --to DIR`", '`site.get(7, "app.conf", to=DIR)`'),
        ("`restore prune` or `restore prune --keep N`", "`site.plan_prune(keep=…).run()` or `site.plan_prune(keep=N).run()`"),
        ("--keep N, --keep-daily N, --older-than 30d", "keep=N, keep_daily=N, older_than=timedelta(days=30)"),
        ("--secret NAME=FILE, or --secrets DIR", 'secrets={"NAME": FILE}, or secrets=DIR'),
        ("--create --node old.1=new deploys", 'create=True nodes={"old.1": "new"} deploys'),
        ("leave --over and --path away", "leave over=… and paths=… away"),
        ("--as restores it beside; --as NAME too", "as_=… restores it beside; as_=NAME too"),
        ("`pg_restore --create --schema-only` shows them", "`pg_restore --create --schema-only` shows them"),
        ("`restore history --search` lists it", "`restore history --search` lists it"),
    ],
)
def test_a_hint_names_what_one_would_call(typed: str, called: str) -> None:
    assert here(typed) == called
