"""Plans and reports for notebooks: plain tables, no style of their own, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._plan import Plan
    from ._report import Report
    from ._values import CheckOutcome, Finding


def size(count: int) -> str:
    """A number of bytes for people."""
    amount, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def seconds(count: float) -> str:
    """A duration for people."""
    return f"{count:.1f} s" if count < 60 else f"{int(count // 60)} min {count % 60:.0f} s"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def findings(found: Sequence[Finding]) -> str:
    """What was noticed, or nothing."""
    if not found:
        return ""
    rows = [(it.severity, it.subject, it.message, it.hint or "") for it in found]
    return table(("", "noticed at", "what", "next step"), rows)


def plan(it: Plan) -> str:
    """A plan."""
    head = f"<b>Plan: restore backup {escape(it.backup)} into {escape(it.site)}</b>"
    rows = [
        (
            component.name,
            component.kind,
            ", ".join(component.artifacts) or "see what was noticed",
            component.summary,
            size(component.read_bytes),
        )
        for component in it.components
    ]
    components = table(("component", "kind", "from", "replaces", "to read"), rows)
    serves = "while the platform serves"
    phases = {"before": serves, "stage": serves, "background": serves}
    phases |= {"cut_over": "downtime", "after": "afterwards"}
    steps = [(phases.get(step.phase, step.phase), step.what) for step in it.steps]
    refusal = it.refusal
    end = f"<p><b>Refused:</b> {escape(str(refusal))}</p>" if refusal else ""
    body = components + table(("when", "step"), steps) + findings(it.findings)
    return f"<div><p>{head}<br>from {escape(it.store)}</p>{body}{end}</div>"


def report(it: Report) -> str:
    """A report."""
    ended = it.ended
    facts = [
        ("run", it.run),
        ("backup", f"{it.backup} in {it.store}"),
        ("started", f"{it.started:%Y-%m-%d %H:%M:%S %Z}"),
        ("took", seconds((ended - it.started).total_seconds()) if ended else "not ended"),
        ("downtime", seconds(it.downtime_seconds) if it.downtime_seconds is not None else "none"),
    ]
    for title, failure in (("failed at", it.failure), ("stuck at", it.stuck)):
        if failure is not None:
            facts.append((title, f"{failure.step}: {failure.message}"))
    components = [
        (
            component.name,
            "restored" if component.restored else "as before",
            size(component.bytes),
            component.kept_at or "",
        )
        for component in it.components
    ]
    parts = [
        f"<p><b>{escape(it.headline)}</b></p>",
        table(("", ""), facts),
        table(("component", "now", "staged", "the other copy"), components),
        checks(it.checks_after),
        findings(it.findings),
    ]
    return f"<div>{''.join(parts)}</div>"


def checks(outcomes: Sequence[CheckOutcome]) -> str:
    """Checks, or nothing."""
    if not outcomes:
        return ""
    rows = [("ok" if it.passed else "FAILED", it.name, it.detail) for it in outcomes]
    return table(("", "check", "seen"), rows)
