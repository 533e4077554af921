"""A node's HTTP port with the console's files from the source tree in front of it, so that a change of one is seen without a
build: `python assets.py 8080 7201` and http://127.0.0.1:8080/ for node 1 of `liminal dev`, or `pytest --assets`."""

from __future__ import annotations

import http.client
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONSOLE = Path(__file__).parents[2] / "src/http/console"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# What says that a browser asks, and from where: the node would refuse the address of this one.
DROPPED = {"host", "origin", "user-agent", "referer", "connection"}


def policy() -> str:
    """The policy that the node sends."""
    found = re.search(r'const POLICY: &str = "([^"]*)"', (CONSOLE / "mod.rs").read_text())
    assert found is not None, "mod.rs has no policy"
    return re.sub(r"\\\n\s*", "", found[1])


class Handler(BaseHTTPRequestHandler):
    node: int

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        path = self.path.split("?")[0]
        name = "index.html" if path == "/" else path.removeprefix("/console/")
        file = CONSOLE / "assets" / name
        if "/" in name or not file.is_file():
            self.pass_on()
            return
        self.send_response(200)
        self.send_header("content-type", f"{KINDS[file.suffix]}; charset=utf-8")
        self.send_header("content-security-policy", policy())
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(file.read_bytes())

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        kept = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in DROPPED and not name.lower().startswith("sec-")
        }
        try:
            there = http.client.HTTPConnection("127.0.0.1", self.node)
            there.request(self.command, self.path, body or None, kept)
            answer = there.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            self.end_headers()
            while part := answer.read1(65_536):
                self.wfile.write(part)
                self.wfile.flush()
        except (OSError, http.client.HTTPException):
            # Who asked, or the node, is gone.
            pass

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve(port: int, node: int) -> ThreadingHTTPServer:
    """Listens on a port, 0 for a free one, for the console of the node whose HTTP port is given."""
    server = Server(("127.0.0.1", port), type("Of", (Handler,), {"node": node}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
    threading.Event().wait()
