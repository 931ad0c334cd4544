"""A process is killed; the next one does not compute again what that one had computed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ostro import LLM, SamplingParams
from ostro.errors import RequestError

PROMPT = random.Random(1).choices(range(3, 101), k=150)
PARAMS = SamplingParams(temperature=0.8, seed=5, max_tokens=40, ignore_eos=True, logprobs=2)
SIZE = 16
TIMEOUT = 120

SERVE = """
import sys, time
from ostro import LLM, SamplingParams
llm = LLM(sys.argv[1], backend="cpu", num_threads=1, prefix_cache_dir=sys.argv[2])
prompt = [int(token) for token in sys.argv[3].split()]
llm.generate([prompt], SamplingParams(temperature=0.8, seed=5, max_tokens=40, ignore_eos=True))
print("done", flush=True)
time.sleep(600)
"""


def load(folder: Path, **options: Any) -> LLM:
    return LLM(folder, **{"backend": "cpu", "num_threads": 1, **options})


def answer(llm: LLM) -> tuple[int, Any]:
    output = llm.generate([PROMPT], PARAMS)[0]
    return output.num_cached_tokens, (output.outputs[0].token_ids, output.outputs[0].logprobs)


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.kv"))


@contextmanager
def process(folder: Path, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that computes the prompt and then waits to be killed."""
    arguments = [sys.executable, "-c", SERVE, str(folder), str(cache), " ".join(map(str, PROMPT))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Callable[[str], Path]) -> Path:
    return tiny_checkpoint("llama-3.2")


@pytest.fixture(scope="module")
def expected(folder: Path) -> Any:
    return answer(load(folder, enable_prefix_caching=False))[1]


@pytest.fixture(scope="module")
def killed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of prefixes that a killed process left."""
    cache = tmp_path_factory.mktemp("prefixes")
    with process(folder, cache) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "done\n"
        until = time.monotonic() + TIMEOUT
        while len(files(cache)) < (len(PROMPT) + 39) // SIZE and time.monotonic() < until:
            time.sleep(0.01)
    return cache


def copied(killed: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(killed, tmp_path / "copy"))


def test_after_kill_9_the_prefix_is_there(folder: Path, killed: Path, tmp_path: Path, expected: Any) -> None:
    assert answer(load(folder, prefix_cache_dir=copied(killed, tmp_path))) == (len(PROMPT) // SIZE * SIZE, expected)


def test_a_process_killed_while_it_writes_leaves_nothing_wrong(folder: Path, tmp_path: Path, expected: Any) -> None:
    with process(folder, tmp_path):
        until = time.monotonic() + TIMEOUT
        while len(files(tmp_path)) < 3 and time.monotonic() < until:
            time.sleep(0.001)
    num_cached_tokens, found = answer(load(folder, prefix_cache_dir=tmp_path))
    assert found == expected
    assert num_cached_tokens >= SIZE


@pytest.mark.parametrize("damage", ["flip", "cut", "swap"])
def test_damaged_files_cost_time_alone(
    folder: Path, killed: Path, tmp_path: Path, expected: Any, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = copied(killed, tmp_path)
    found = sorted(files(cache), key=lambda path: -path.stat().st_mtime_ns)  # the first block is the youngest
    third = found[2].read_bytes()
    if damage == "flip":
        found[2].write_bytes(third[:-9] + bytes([third[-9] ^ 4]) + third[-8:])
    elif damage == "cut":
        found[2].write_bytes(third[:100])
    else:  # whole files, each under the name of the other
        found[2].write_bytes(found[3].read_bytes())
        found[3].write_bytes(third)
    assert answer(load(folder, prefix_cache_dir=cache)) == (2 * SIZE, expected)
    assert any("is damaged" in record.getMessage() for record in caplog.records)
    llm = load(folder, prefix_cache_dir=cache)
    llm.shared.engine.flush()
    assert answer(llm)[1] == expected


@pytest.mark.parametrize(
    "options",
    [{"dtype": "float16"}, {"kv_dtype": "float16"}, {"quantize": 8}, {"block_size": 32}, {"backend": "reference"}],
    ids=str,
)
def test_what_was_computed_otherwise_is_not_used(
    folder: Path, killed: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    options = {**options, **({"num_threads": None} if "backend" in options else {})}
    assert answer(load(folder, prefix_cache_dir=copied(killed, tmp_path), **options))[0] == 0


def test_another_model_of_the_same_shape_is_another_model(
    folder: Path, killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    other = Path(shutil.copytree(folder, tmp_path / "other"))
    cache = copied(killed, tmp_path)
    assert answer(load(other, prefix_cache_dir=cache))[0] > 0  # the copy is the same to the last bit and second
    weights = next(other.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert answer(load(other, prefix_cache_dir=cache))[0] == 0


def test_a_draft_model_beside_it(folder: Path, killed: Path, tmp_path: Path, expected: Any) -> None:
    llm = load(folder, prefix_cache_dir=copied(killed, tmp_path), draft_model=folder)
    assert answer(llm) == (len(PROMPT) // SIZE * SIZE, expected)


def test_a_folder_that_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="prefix_cache_dir"):
        load(folder, prefix_cache_dir=tmp_path / "file")
