"""Runs on the whole platform with real servers: restored, or as it was before."""

from __future__ import annotations

import asyncio
import tomllib
from datetime import timezone

import pytest
import restore
from conftest import Platform, difference

# One step of each phase: the safety backup, beside the live data, each kind of step of the downtime,
# afterwards.
STEPS = [
    "backup:safety",
    "stage:postgres",
    "maintenance:on",
    "stop:app",
    "cut-over:redis",
    "start:app",
    "check:inside",
    "maintenance:off",
    "check:outside",
]


def test_no_phase_is_left_out(platform: Platform) -> None:
    plan = platform.plan()
    of_kind = {step.id.partition(":")[0] for step in plan.steps}
    assert of_kind == {step.partition(":")[0] for step in STEPS}
    assert {step.phase for step in plan.steps} == {
        step.phase for step in plan.steps if step.id in STEPS
    }
    app = next(it for it in plan.services if it.name == "app")
    assert app.start == 1 and app.waits and not app.background


def test_a_whole_restore(platform: Platform) -> None:
    assert difference(platform.at_backup, platform.restored) == []
    report = platform.whole
    assert report.outcome == "restored" and report.error is None
    assert report.headline == "Restored and checked" == str(report).splitlines()[1]
    assert report.started.tzinfo == timezone.utc
    assert report.ended is not None and report.ended > report.started
    assert report.downtime_seconds is not None and report.downtime_seconds > 0
    assert len(report.components) == 12 and all(it.restored for it in report.components)
    assert all(report.checks_after)
    assert report.services["app"] == 1
    assert report.to_dict()["run"] == report.run
    html = report._repr_html_()
    assert report.run in html and "health" in html


def test_there_and_back(platform: Platform) -> None:
    site = platform.site()
    seen: list[restore.Event] = []
    report = platform.plan().run(on_event=seen.append)
    assert report.outcome == "restored"
    assert isinstance(seen[0], restore.RunStarted) and seen[0].run == report.run
    assert isinstance(seen[-1], restore.RunFinished) and seen[-1].outcome == "restored"
    kinds = {type(event) for event in seen}
    assert {restore.StepStarted, restore.DowntimeStarted, restore.CheckMade} <= kinds
    assert all(isinstance(event.to_dict()["event"], str) for event in seen)
    assert difference(platform.restored, platform.fingerprint()) == []
    assert site.preview_rollback().run == report.run
    back = site.rollback(report.run)
    assert back.outcome == "rolled_back" and back.error is None
    platform.is_as_before()


def test_a_secret_may_be_an_object(platform: Platform) -> None:
    config = tomllib.loads(platform.config.read_text())
    section = config["components"]["redis"]
    text = (platform.root / section.pop("password_file")).read_text().strip()
    section["password"] = restore.Secret(text)
    assert restore.Site(config, base=platform.root).plan("latest", only=["redis"]).refusal is None
    section["password"] = restore.Secret("another")
    refused = restore.Site(config, base=platform.root).plan("latest", only=["redis"]).refusal
    assert refused is not None and "another" not in f"{refused} {refused.hint}"


class Enough(Exception):
    pass


def stopped_at(platform: Platform, step: str, error: BaseException) -> None:
    report = error.report  # type: ignore[attr-defined]
    if step == STEPS[-1] and report.outcome == "restored":
        # The run may come to its end before anybody hears of its last step.
        platform.site().rollback()
    else:
        assert report.outcome == "undone"
        assert report.failure.kind == "interrupted"
    platform.is_as_before()


@pytest.mark.parametrize("step", STEPS)
def test_an_exception_of_the_callback_undoes_the_run(platform: Platform, step: str) -> None:
    def stop(event: restore.Event) -> None:
        if isinstance(event, restore.StepStarted) and event.step == step:
            raise Enough(step)

    with pytest.raises(Enough) as caught:
        platform.plan().run(on_event=stop)
    stopped_at(platform, step, caught.value)


@pytest.mark.parametrize("step", STEPS)
def test_a_cancelled_task_undoes_the_run(platform: Platform, step: str) -> None:
    async def restoring() -> None:
        plan = await platform.site().plan_async("latest", only=platform.ONLY)

        async def stop(event: restore.Event) -> None:
            if isinstance(event, restore.StepStarted) and event.step == step:
                task.cancel()

        task = asyncio.create_task(plan.run_async(on_event=stop))
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        raised.append(caught.value)

    raised: list[BaseException] = []
    asyncio.run(restoring())
    stopped_at(platform, step, raised[0])


def test_iteration_and_its_end(platform: Platform) -> None:
    # Left by an exception: stopped and undone.
    with pytest.raises(Enough) as caught:
        with platform.plan().start() as run:
            for event in run:
                if isinstance(event, restore.DowntimeStarted):
                    raise Enough
    assert caught.value.report.outcome == "undone"  # type: ignore[attr-defined]
    platform.is_as_before()

    # Stopped by word: what is iterated over ends with the error.
    with pytest.raises(restore.StoppedError) as stopped:
        with platform.plan().start() as run:
            for event in run:
                if isinstance(event, restore.DowntimeStarted):
                    run.cancel()
    assert stopped.value.report is not None and stopped.value.report.is_as_before
    platform.is_as_before()

    # Left early: the run goes on to its end.
    with platform.plan().start() as run:
        for event in run:
            break
    assert run.report.outcome == "restored"
    platform.site().rollback()
    platform.is_as_before()


def test_iteration_on_a_loop(platform: Platform) -> None:
    async def there() -> restore.Report:
        plan = await platform.site().plan_async("latest", only=platform.ONLY)
        async with plan.start() as run:
            async for event in run:
                assert isinstance(event, restore.Event)
        return run.report

    async def not_there() -> None:
        plan = await platform.site().plan_async("latest", only=platform.ONLY)
        async with plan.start() as run:
            async for event in run:
                if isinstance(event, restore.DowntimeStarted):
                    raise Enough

    assert asyncio.run(there()).outcome == "restored"
    platform.site().rollback()
    platform.is_as_before()
    with pytest.raises(Enough) as caught:
        asyncio.run(not_there())
    assert caught.value.report.outcome == "undone"  # type: ignore[attr-defined]
    platform.is_as_before()


def test_a_deadline_and_the_loop_goes_on(platform: Platform) -> None:
    """Other tasks of the loop run all the time, also while the run is undone."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def restoring() -> None:
        plan = await platform.site().plan_async("latest", only=platform.ONLY)
        ticking = asyncio.create_task(tick())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(plan.run_async(), timeout=0.5)
        ticking.cancel()

    asyncio.run(restoring())
    assert ticks > 20
    platform.is_as_before()


def test_a_failure_raises_with_the_report(platform: Platform) -> None:
    """The dump is damaged behind the manifest's back: found while it is staged."""
    dump = next((platform.root / "backups" / platform.backup / "postgres").glob("*.dump"))
    good = dump.read_bytes()
    plan = platform.plan()
    dump.write_bytes(good[:-100] + bytes(100))
    try:
        with pytest.raises(restore.RestoreError) as caught:
            plan.run()
    finally:
        dump.write_bytes(good)
    error = caught.value
    assert isinstance(error, (restore.VerificationError, restore.FailedError)), error
    assert error.report is not None and error.report.outcome == "undone"
    assert error.report.failure is not None and error.report.failure.step == "stage:postgres"
    platform.is_as_before()


def test_a_second_run_is_told_who_has_the_lock(platform: Platform) -> None:
    site = platform.site()
    with platform.plan().start() as run:
        assert isinstance(next(run), restore.RunStarted)
        for attempt in (site.ensure_idle, platform.plan().run, site.rollback):
            with pytest.raises(restore.LockedError) as caught:
                attempt()
            assert caught.value.retryable and "process" in str(caught.value)
    site.rollback()
    platform.is_as_before()
