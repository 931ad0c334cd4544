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
    after that many bytes; of one in `hold_at` it goes on only when `release` is set. `status` is an answer for
    everything, when it is not 0; `refusals` are such answers for the next bodies, in turn.

    A file in `lfs` is stored as large files are: its etag is the sha256 given there, and from `cdn`, if set, comes its
    body. `requests` has each request for a file: method, name, its Range header or "", and whether a token came along.
    """

    repos: dict[str, Mapping[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut_at: dict[str, int] = field(default_factory=dict)
    hold_at: dict[str, int] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    lfs: dict[str, str] = field(default_factory=dict)
    cdn: str = ""
    xet: bool = False
    honours_range: bool = True
    refusals: list[int] = field(default_factory=list)
    status: int = 0
    endpoint: str = ""
    fetched: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, str, bool]] = field(default_factory=list)


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve the hub on a free port of 127.0.0.1; sets `hub.endpoint`."""

    class Handler(_Handler):
        pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that are killed go without a word."""

    Handler.hub = hub
    server = Server(("127.0.0.1", 0), Handler)
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
        files = [
            {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            | ({"lfs": self._lfs(name, data, "sha256")} if name in self.hub.lfs else {})
            for name, data in self.hub.repos[repo].items()
        ]
        return {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": files, "tags": [], "private": False}

    def _tree(self, repo: str) -> object:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            | ({"lfs": self._lfs(name, data, "oid")} if name in self.hub.lfs else {})
            for name, data in self.hub.repos[repo].items()
        ]

    def _lfs(self, name: str, data: bytes, key: str) -> object:
        return {key: self.hub.lfs[name], "size": len(data), "pointerSize": 130}

    def _file(self, repo: str, name: str, body: bool) -> None:
        hub, wanted = self.hub, self.headers.get("Range", "")
        hub.requests.append((self.command, name, wanted, "Authorization" in self.headers))
        data = hub.repos[repo].get(name)
        if data is None:
            return self._error(404, "EntryNotFound")
        if body and hub.refusals and (refusal := hub.refusals.pop(0)):
            return self._error(refusal, "")
        if name in hub.lfs and hub.cdn:
            return self._redirect(name, data, f"{hub.cdn}/{repo}/resolve/{COMMIT}/{name}")
        start = 0
        if wanted and body and hub.honours_range:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            hub.ranges.append(wanted)
        self.send_response(206 if start else 200)
        self._describe(name, data)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            hub.fetched.append(name)
            self._body(name, data, start)
        return None

    def _describe(self, name: str, data: bytes) -> None:
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if name in self.hub.lfs:
            self.send_header("X-Linked-Etag", f'"{self.hub.lfs[name]}"')
            self.send_header("X-Linked-Size", str(len(data)))
            if self.hub.xet:
                self.send_header("X-Xet-Hash", "ab" * 32)
                self.send_header("X-Xet-Refresh-Route", f"{self.hub.endpoint}/nowhere")

    def _redirect(self, name: str, data: bytes, target: str) -> None:
        self.send_response(302)
        self._describe(name, data)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self, name: str, data: bytes, start: int) -> None:
        held = self.hub.hold_at.pop(name, None)
        if held is not None:
            self.wfile.write(data[start:held])
            self.wfile.flush()
            self.hub.release.wait(60)
            start = held
        stop = self.hub.cut_at.pop(name, None)
        self.wfile.write(data[start:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True

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
