#!/usr/bin/python3
"""Stands in for Grafana, which Debian does not have: a server on port 3000 with the same health
check over the same kind of volume. It says everywhere that it is not the real one.

    /api/health   200 while grafana.db can be read, 503 otherwise
    /api/search   the titles of its dashboards

Like the real one it opens its database once, here for the first question: files that are replaced
under a running server are noticed only after a restart.
"""

import json
import signal
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = "file:/var/lib/grafana/grafana.db?mode=ro"


class Handler(BaseHTTPRequestHandler):
    database = None
    lock = threading.Lock()

    def do_GET(self):
        try:
            with self.lock:
                if Handler.database is None:
                    Handler.database = sqlite3.connect(DATABASE, uri=True, check_same_thread=False)
                titles = [row[0] for row in self.database.execute("SELECT title FROM dashboard ORDER BY id")]
        except sqlite3.Error as problem:
            self.answer(503, {"database": str(problem), "version": "stand-in"})
            return
        if self.path == "/api/health":
            self.answer(200, {"database": "ok", "version": "stand-in", "dashboards": len(titles)})
        elif self.path.startswith("/api/search"):
            self.answer(200, [{"title": title} for title in titles])
        else:
            self.answer(404, {"message": "this is a stand-in for Grafana"})

    def answer(self, status, value):
        body = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("0.0.0.0", 3000), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("a stand-in for Grafana, listening on port 3000", flush=True)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
