"""The bursts of benchmarks/server_speed.py, against ostro's server and against one that speaks llama-server's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_chat import save_chat_model

import server_speed
from http_load.chats import LLAMA, OSTRO, Burst, Workload, burst
from http_load.processes import ostro_server

SMALL = Workload(users=3, system=20, question=5, answer=7, vocab_size=32768)


class _Llama(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        length = asked["n_predict"] - self.server.missing  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        for number in range(length):
            is_last = number == length - 1
            event = {"content": "w", "stop": is_last} | ({"tokens_predicted": length} if is_last else {})
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())


@pytest.fixture
def llama() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Llama)
    server.missing = 0  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_prompts_share_their_beginning_and_nothing_else() -> None:
    first, second = SMALL.prompts(1), SMALL.prompts(2)
    assert {tuple(prompt[:20]) for prompt in first + second} == {tuple(first[0][:20])}
    assert len({tuple(prompt) for prompt in first + second}) == 6
    assert {len(prompt) for prompt in first} == {25}


def test_a_burst_at_ostro(tmp_path: Path) -> None:
    options = ("--threads", "1", "--kv-cache", "16MiB", "--embedding-model", "none", "--prefix-cache", "none")
    with ostro_server(save_chat_model(tmp_path / "tiny-chat"), *options) as server:
        found = burst(server.address, OSTRO, SMALL, 1)
    assert found.tokens == 21
    assert len(found.waits) == 3
    assert 0 < found.median_wait <= found.seconds


def test_a_burst_at_llama_server(llama: ThreadingHTTPServer) -> None:
    address = f"http://127.0.0.1:{llama.server_address[1]}"
    assert burst(address, LLAMA, SMALL, 1).tokens == 21
    llama.missing = 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="6 tokens came where 7"):
        burst(address, LLAMA, SMALL, 1)


def test_the_table() -> None:
    def contender(name: str, seconds: float, wait: float) -> server_speed.Contender:
        made = server_speed.Contender(name, "x", LLAMA, lambda: pytest.fail("not started"))
        made.rounds = [(Burst(2 * seconds, 100, (wait,)), Burst(seconds, 100, (wait / 2,)))]
        return made

    ours, quick, prompt = contender("ostro", 1, 1), contender("quick", 4, 2), contender("prompt", 5, 1)
    found = server_speed.finalists([(each, each.rounds[0]) for each in (quick, prompt)])
    assert found == [quick, prompt]
    assert server_speed.finalists([(quick, quick.rounds[0])]) == [quick]
    text = server_speed.table(server_speed.arguments([]), SMALL, "llama-server", ours, found)
    assert "| ostro (x) | second burst | 100.0 | 0.50 s |  |" in text
    assert "| quick (x) | second burst | 25.0 | 1.00 s | 4.0 x as fast |" in text
