"""The code of the source documents runs against the server, changed in nothing but endpoint and key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from client_runs import run_program
from live_server import KEY, MODEL, live_server
from tiny_chat import save_chat_model

DOCUMENTS = Path(__file__).parents[3] / "shared" / "source-documents"
ESSAY = "".join(
    f"Before college the two main things I worked on were writing and programming, {n}.\n" for n in range(300)
)

pytestmark = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the source documents are not here")


class _Essay(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(ESSAY.encode())


@pytest.fixture(scope="module")
def essay() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Essay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/essay.txt"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = save_chat_model(tmp_path_factory.mktemp("documents") / MODEL)
    with live_server(folder, "*", max_tokens_limit=1000, max_body_bytes=1 << 22) as address:
        yield address


def run(python: Path, number: str, server: str, essay: str, folder: Path) -> list[dict[str, Any]]:
    (document,) = DOCUMENTS.glob(f"{number}_*.txt")
    keys = {"GITHUB_TOKEN": KEY, "MISTRAL_API_KEY": KEY}
    return list(run_program(python, "document", str(document), server, essay, cwd=folder, **keys))


def test_the_lesson_on_mistral(interpreter: Callable[[str], Path], server: str, essay: str, tmp_path: Path) -> None:
    """Retrieval over an essay with a question in Korean, then the same prompt to Small and to Large."""
    blocks = run(interpreter("tutorial"), "000", server, essay, tmp_path)
    assert [block.get("raised") for block in blocks] == [None] * 3, blocks
    assert all(block["printed"].strip() for block in blocks)


@pytest.mark.parametrize("environment", ["mistral-0.0", "tutorial", "mistral-0.4"])
def test_the_guide_to_mixtral(
    interpreter: Callable[[str], Path], server: str, essay: str, tmp_path: Path, environment: str
) -> None:
    """Few-shot prompting, code, and the guardrail, by every `MistralClient`; 0.0.12 lacks python-dotenv alone."""
    (tmp_path / "dotenv.py").write_text("def load_dotenv() -> None: ...\n")
    (document,) = DOCUMENTS.glob("001_*.txt")
    keys = {"MISTRAL_API_KEY": KEY, "PYTHONPATH": str(tmp_path)}
    blocks = run_program(interpreter(environment), "document", str(document), server, essay, cwd=tmp_path, **keys)
    assert [block.get("raised") for block in blocks] == [None] * 3, blocks
    assert all(block["printed"].strip() for block in blocks)


def test_the_lesson_on_llama(interpreter: Callable[[str], Path], server: str, essay: str, tmp_path: Path) -> None:
    """The tool prompt runs; the picture is refused in words, since no model that sees is served."""
    (tmp_path / "sample.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    tool_prompt, picture = run(interpreter("tutorial"), "003", server, essay, tmp_path)
    assert "raised" not in tool_prompt, tool_prompt
    assert tool_prompt["printed"].strip()
    assert "HttpResponseError" in picture["raised"]
    assert "image" in picture["raised"]
