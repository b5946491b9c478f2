#!/usr/bin/python3
"""The hosting platform's application: a website in front of PostgreSQL and Redis.

    /health       200 {"status": "ok", …} while both databases answer, 503 otherwise
    /api/version  the version of the code that lies on disk
    /api/stats    a few numbers from both databases
    /static/…     files of public/
"""

import json
import os
import pwd
import select
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.dont_write_bytecode = True

from lib.databases import Databases, Unavailable  # noqa: E402

CODE = Path(__file__).resolve().parent
# The code is in <host>/opt/applications/hosting-app.
HOST = CODE.parents[2] if len(CODE.parents) > 2 else None
# There the settings are variables, and the passwords secrets.
IN_CONTAINER = "HOSTING_SECRETS" in os.environ


def main():
    settings = read_settings()
    databases = Databases(settings)
    Handler.databases = databases
    server = ThreadingHTTPServer((settings["APP_HOST"], int(settings["APP_PORT"])), Handler)
    server.daemon_threads = False
    if not IN_CONTAINER:
        (HOST / "run/app.pid").write_text(f"{os.getpid()}\n")
        become("www-data")
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log(f"listening on port {settings['APP_PORT']}")
    server.serve_forever(poll_interval=0.05)
    finish(server)
    log("stopped")


def finish(server):
    """Answers what has been asked already: a user must not get an error because we stop."""
    server.timeout = 0
    while select.select([server], [], [], 0)[0]:
        server.handle_request()
    server.server_close()


def read_settings():
    settings = {"APP_HOST": "127.0.0.1", "PG_HOST": "127.0.0.1", "REDIS_HOST": "127.0.0.1"}
    if IN_CONTAINER:
        settings.update(os.environ)
    else:
        for line in (HOST / "platform.env").read_text().splitlines():
            key, separator, value = line.partition("=")
            if separator and not line.startswith("#"):
                settings[key] = value
    folder = Path(os.environ["HOSTING_SECRETS"]) if IN_CONTAINER else HOST / "secrets"
    for name in ["postgres", "redis"]:
        settings[name] = (folder / f"{name}.pass").read_text().strip()
    return settings


def versions():
    """Of the code, and, in a container, of the image that it runs in."""
    found = {"application": "hosting-app", "version": (CODE / "VERSION").read_text().strip()}
    image = CODE.parent / "image-version"
    if image.exists():
        found["image"] = image.read_text().strip()
    return found


def become(user):
    """Gives up root for good, once the port, the pid file and the passwords are in hand."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def log(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, flush=True)


class Handler(BaseHTTPRequestHandler):
    databases = None
    # Seconds to wait for a client that says nothing.
    timeout = 10

    def do_GET(self):
        path = self.path.partition("?")[0]
        try:
            if path == "/health":
                self.answer(200, {"status": "ok", **self.databases.health()})
            elif path == "/api/version":
                self.answer(200, versions())
            elif path == "/api/stats":
                self.answer(200, self.databases.stats())
            elif path.startswith("/static/"):
                self.file(path.removeprefix("/static/"))
            else:
                self.answer(404, {"error": "not found"})
        except Unavailable as problem:
            log(f"warning: {path}: {problem}")
            self.answer(503, {"status": "unavailable", "reason": str(problem)})
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as problem:  # a request must not end the server
            log(f"ERROR {path}: {problem!r}")
            self.answer(500, {"error": "internal"})

    def file(self, name):
        public = CODE / "public"
        path = (public / name).resolve()
        if public not in path.parents or not path.is_file():
            self.answer(404, {"error": "not found"})
            return
        kind = "image/svg+xml" if path.suffix == ".svg" else "text/plain"
        self.send(200, path.read_bytes(), kind, {"Cache-Control": "public, max-age=31536000"})

    def answer(self, status, value):
        text = json.dumps(value) + "\n"
        self.send(status, text.encode(), "application/json", {"Cache-Control": "no-store"})

    def send(self, status, body, kind, headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """nginx writes the access log."""


if __name__ == "__main__":
    main()
