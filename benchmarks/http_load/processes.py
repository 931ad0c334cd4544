"""Servers as processes of their own: started, waited for, looked at, ended."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_READY = re.compile(r"^ +OpenAI +(https?://\S+)/v1$", re.MULTILINE)
_POLL = 0.1
_PATIENCE = 600.0  # seconds in which a server must come up, and end


class ServerError(Exception):
    """A server did not come up, or ended by itself; the text has the end of what it said."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that answers at `address` (without a path)."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def resident_bytes(self) -> int:
        """Memory that it holds now, without pages of files."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return sum(int(size) * 1024 for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", text, re.MULTILINE))

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        return get(self.address, path, headers)


def get(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of GET."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@contextmanager
def ostro_server(model: Path | str, *options: str) -> Iterator[ServerProcess]:
    """`ostro serve` with these options on a free port, without a line for each request."""
    command = [sys.executable, "-m", "ostro", "serve", str(model), "--port", "0", "--log-format", "off", *options]
    with _started(command) as (process, out, log):

        def address() -> str | None:
            found = _READY.search(out.read_text(encoding="utf-8", errors="replace"))
            return found[1] if found else None

        yield ServerProcess(_wait(process, log, address), process, log)


@contextmanager
def llama_server(binary: Path, model: Path, port: int, *options: str) -> Iterator[ServerProcess]:
    """llama.cpp's server at a port of 127.0.0.1."""
    here = f"http://127.0.0.1:{port}"
    command = [str(binary), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), *options]
    with _started(command) as (process, _, log):

        def address() -> str | None:
            try:
                return here if get(here, "/health")[0] == 200 else None
            except OSError:
                return None

        yield ServerProcess(_wait(process, log, address), process, log)


@contextmanager
def _started(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    """The process, and the files that take its stdout and stderr: pipes that nobody reads would stop it."""
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "out"), Path(folder, "log")
        with out.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        try:
            yield process, out, log
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, address: object) -> str:
    assert callable(address)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        found = address()
        if found is not None:
            return str(found)
        if process.poll() is not None:
            break
        time.sleep(_POLL)
    last = " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:])
    raise ServerError(f"{os.path.basename(str(process.args[0]))} did not come up: {last}")  # type: ignore[index]
