"""Plans and reports for notebooks: plain tables, no style of their own, everything escaped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._base import Value
    from ._plan import Plan
    from ._report import Report
    from ._values import CheckOutcome, Finding


def escape(text: str) -> str:
    """The text as HTML has it."""
    import html  # Slow to import, and needed in notebooks alone.

    return html.escape(text)


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


def value(it: Value) -> str:
    """Any value: its fields, and a table of each list of values in it."""
    rows: list[tuple[str, str]] = []
    tables: list[str] = []
    for field in dataclasses.fields(it):  # type: ignore[arg-type]
        held = getattr(it, field.name)
        name = field.name.replace("_", " ")
        if isinstance(held, tuple) and held and dataclasses.is_dataclass(held[0]):
            tables.append(f"<p>{escape(name)}</p>" + values(held))
        else:
            rows.append((name, _cell(held)))
    title = f"<p><b>{escape(type(it).__name__)}</b></p>"
    return f"<div>{title}{table(('', ''), rows)}{''.join(tables)}</div>"


def values(held: Sequence[Any]) -> str:
    """A table of values of one class."""
    if not held:
        return "<p>none</p>"
    names = [field.name for field in dataclasses.fields(held[0])]
    rows = [[_cell(getattr(it, name)) for name in names] for it in held[:_MOST]]
    more = f"<p>and {len(held) - _MOST} more</p>" if len(held) > _MOST else ""
    return table([name.replace("_", " ") for name in names], rows) + more


def _cell(held: Any) -> str:
    if held is None:
        return ""
    if isinstance(held, tuple):
        return ", ".join(str(item) for item in held)
    return str(held)


_MOST = 200


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
