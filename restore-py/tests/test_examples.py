"""The wheel in a new virtual environment, the README's example, the examples and the notebook."""

from __future__ import annotations

import ast
import asyncio
import http.server
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path
from typing import Any

import httpx
import nbclient
import nbformat
import pytest
import restore
from conftest import BACKUP, REPOSITORY, Platform, Small, difference
from test_handles import toml

EXAMPLES = REPOSITORY / "examples" / "python"


def readme() -> str:
    """The Python program of the repository's README."""
    text = (REPOSITORY / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert isinstance(program, str)
    return program


def test_the_wheel_installs_and_the_readme_runs(platform: Platform, tmp_path: Path) -> None:
    wheel = os.environ.get("RESTORE_WHEEL")
    assert wheel, "run the tests with scripts/python-test.sh, which builds the wheel"
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = str(venv / "bin" / "pip")
    subprocess.run([pip, "install", "--quiet", "--no-index", wheel], check=True)
    program = tmp_path / "readme.py"
    program.write_text(readme())
    ran = subprocess.run(
        [venv / "bin" / "python", program], cwd=platform.root, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "Plan: restore backup" in ran.stdout and "Restored and checked" in ran.stdout
    assert difference(platform.restored, platform.fingerprint()) == []
    site = platform.site()
    assert site.report().confirmed
    for name in platform.ONLY:
        platform.damage(name)
    platform.is_as_before()


def program(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, args)], capture_output=True, text=True
    )


def loaded(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_smallest(platform: Platform) -> None:
    ran = program("smallest.py", platform.config)
    assert ran.returncode == 0, ran.stderr
    assert "Restored and checked" in ran.stdout
    platform.site().rollback()
    platform.is_as_before()


def test_nightly_verification(platform: Platform) -> None:
    ran = program("nightly_verification.py", platform.config)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().endswith("sound")
    folder = platform.root / "backups" / platform.backup
    archive = next((folder / "volumes").glob("grafana-*"))
    good = archive.read_bytes()
    archive.write_bytes(good[: len(good) // 2])
    try:
        ran = program("nightly_verification.py", platform.config)
    finally:
        archive.write_bytes(good)
    assert ran.returncode == 1
    assert archive.name in ran.stderr, ran.stderr
    missing = program("nightly_verification.py", folder / "nothing.toml")
    assert missing.returncode == 1 and "nothing.toml" in missing.stderr


def test_nightly_verification_tells_a_webhook(small: Small) -> None:
    told: list[dict[str, str]] = []

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    chat = http.server.HTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=chat.handle_request)
    thread.start()
    # It is older than a night.
    ran = program("nightly_verification.py", toml(small), f"http://127.0.0.1:{chat.server_port}/")
    thread.join()
    chat.server_close()
    assert ran.returncode == 1, ran.stderr
    assert "the newest backup is 20240215-020000" in told[0]["text"]


HIDING = """
import runpy, sys
script, config, *hidden = sys.argv[1:]
sys.modules.update(dict.fromkeys(hidden))
sys.argv = [script, config]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("hidden", [(), ("tqdm",), ("tqdm", "rich")])
def test_a_bar(small: Small, hidden: tuple[str, ...]) -> None:
    """That of tqdm, of rich, and lines."""
    ran = subprocess.run(
        [sys.executable, "-c", HIDING, EXAMPLES / "with_bar.py", toml(small), *hidden],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "100%" in ran.stderr and "Restored and checked" in ran.stdout


def test_several_processes(small: Small) -> None:
    # Newer, and nothing that would restore everything.
    (small.root / "backups" / "20240216-020000").mkdir()
    ran = program("in_processes.py", toml(small))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["20240215-020000: verified", "20240215-020000: drilled"]


@pytest.mark.parametrize("name", ["with_bar", "nightly_verification", "in_processes", "http_service"])
def test_the_smallest_of_each_has_ten_lines_and_runs(
    small: Small, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTORE_CONFIG", str(toml(small)))
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    assert text is not None
    (block,) = re.findall(r"The smallest of it:\n\n((?:(?: {4}.*)?\n)+)", text + "\n")
    smallest = textwrap.dedent(block).strip()
    assert 0 < len(smallest.splitlines()) <= 10
    assert len((EXAMPLES / "smallest.py").read_text().splitlines()) <= 10
    site = restore.Site.open()
    fractions: list[float] = []
    bar = types.SimpleNamespace(update=fractions.append)
    names = {"restore": restore, "json": json, "site": site, "plan": site.plan("latest"), "bar": bar}
    exec(smallest, names)
    assert name != "with_bar" or fractions[-1] == 1.0


def test_the_programs_of_the_module_s_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "restore-py" / "README.md").read_text()
    first, signals, more, component = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "class OneFile" in component  # Tried where components are.
    # What the hosting platform has, and the small one has otherwise.
    named = {
        '"postgres"': '"data"',
        "mnt/nfs/nginx/conf.d/app.conf": "data/data.txt",
        "nginx/nginx.conf": "data/data.txt",
        "/root/out": str(tmp_path / "out"),
    }
    pieces = [first, signals, *more.split("\n\n")]
    assert len(pieces) > 8
    for number, piece in enumerate(pieces):
        small = Small(tmp_path / str(number))
        toml(small)
        monkeypatch.chdir(small.root)
        shutil.copytree(small.root / "backups", small.root / "far")
        config = small.config()
        config["stores"]["far"] = {"kind": "directory", "path": "far"}
        site = restore.Site(config, base=small.root)
        fractions: list[float] = []
        names: dict[str, Any] = {
            "restore": restore,
            "site": site,
            "plan": site.plan("latest"),
            "backup": site.backup("latest"),
            "id": BACKUP,
            "bar": types.SimpleNamespace(update=fractions.append),
        }
        if "run.events" in piece:
            names["run"] = site.plan("latest").start()
        if "site.rollback" in piece:
            site.plan("latest").run()
        for known, here in named.items():
            piece = piece.replace(known, here)
        code = compile(piece, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        ran = eval(code, names)
        if inspect.iscoroutine(ran):
            asyncio.run(ran)
        assert "bar.update" not in piece or fractions[-1] == 1.0


def test_a_service_of_fastapi(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CONFIG", str(toml(small)))
    module = loaded("fastapi_service")

    async def served() -> None:
        transport = httpx.ASGITransport(app=module.app)
        async with module.app.router.lifespan_context(module.app):
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                assert (await client.get("/restore")).status_code == 404
                asked = await asyncio.gather(*(client.post("/restore") for _ in range(2)))
                assert sorted(it.status_code for it in asked) == [202, 409]
                lines = (await client.get("/restore")).text.splitlines()
                events = [json.loads(line) for line in lines]
                assert events[0]["event"] == "run_started" and events[-1]["outcome"] == "restored"
                assert (await client.delete("/restore")).status_code == 202
                # What is not confirmed is not restored over.
                refused = await client.post("/restore")
                assert refused.status_code == 409 and refused.json()["error"], refused.text
        assert module.last.state == "done"

    asyncio.run(served())


def test_a_service(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the interface by which a server would call it."""
    monkeypatch.setenv("RESTORE_CONFIG", str(toml(small)))
    module = loaded("http_service")

    async def ask(method: str, path: str = "/restore") -> tuple[int, list[dict[str, Any]]]:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("it reads no body")

        async def send(message: Any) -> None:
            sent.append(message)

        await module.app({"type": "http", "method": method, "path": path}, receive, send)
        body = b"".join(message["body"] for message in sent[1:])
        return sent[0]["status"], [json.loads(line) for line in body.splitlines()]

    async def served() -> None:
        assert (await ask("GET"))[0] == 404 == (await ask("GET", "/"))[0]
        # One of two who ask at the same time is told that there is one: small as it is, it may have ended by
        # then, and is not confirmed.
        asked = sorted(await asyncio.gather(ask("POST"), ask("POST")), key=lambda it: it[0])
        assert [status for status, _ in asked] == [202, 409], asked
        begun = asked[0][1]
        followed = await asyncio.gather(ask("GET"), ask("GET"))
        for status, events in followed:
            assert status == 200 and events[-1]["outcome"] == "restored"
            assert {event["run"] for event in events} == {begun[0]["run"]}
        assert followed[0] == followed[1]
        assert (await ask("DELETE"))[0] == 202
        # What is not confirmed is not restored over: said by the next one.
        status, refused = await ask("POST")
        assert status == 409 and refused[0]["code"], refused
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            return {"type": next(messages)}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await module.app({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(served())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CONFIG", str(platform.config))
    notebook = nbformat.read(EXAMPLES / "plan_and_report.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    html = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert len(html) == 3
    assert "<th>id</th>" in html[0] and "Plan: restore backup" in html[1]
    assert "Restored and checked" in html[2] and "postgres" in html[2]
    platform.site().confirm()
    platform.is_as_before()
