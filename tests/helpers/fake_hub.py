"""A Hugging Face hub on the loopback device, as much of it as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories by name, each a mapping of file names to bytes; and what the clients asked for.

    `gated` repositories answer 401 with the hub's own error code. The first body of a file in `cut_at` breaks off
    after that many bytes. `status` is an answer for everything, when it is not 0.
    """

    repos: dict[str, Mapping[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut_at: dict[str, int] = field(default_factory=dict)
    status: int = 0
    endpoint: str = ""
    fetched: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve the hub on a free port of 127.0.0.1; sets `hub.endpoint`."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def _route(self, body: bool) -> None:
        if self.hub.status:
            return self._error(self.hub.status, "")
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/") if part]
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.hub.repos:
            return self._error(401, "RepoNotFound")
        if repo in self.hub.gated and not (api and rest[:1] != ["tree"]):
            return self._error(401, "GatedRepo")  # as the hub does: the page is public, the files are not
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", COMMIT):
            return self._error(404, "RevisionNotFound")
        if api:
            return self._json(self._tree(repo) if rest[:1] == ["tree"] else self._info(repo))
        return self._file(repo, "/".join(rest[2:]), body)

    def _info(self, repo: str) -> object:
        files = [{"rfilename": name, "size": len(data)} for name, data in self.hub.repos[repo].items()]
        return {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": files, "tags": [], "private": False}

    def _tree(self, repo: str) -> object:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in self.hub.repos[repo].items()
        ]

    def _file(self, repo: str, name: str, body: bool) -> None:
        data = self.hub.repos[repo].get(name)
        if data is None:
            return self._error(404, "EntryNotFound")
        start = 0
        wanted = self.headers.get("Range")
        if wanted and body:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.hub.ranges.append(wanted)
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return None
        self.hub.fetched.append(name)
        stop = self.hub.cut_at.pop(name, None)
        self.wfile.write(data[start:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
        return None

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
