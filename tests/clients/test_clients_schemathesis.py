"""schemathesis on /openapi.json: whatever the document allows, and what it does not, is answered without a fault."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import KEY

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def schemathesis(python: Path, address: str, folder: Path, *options: str) -> str:
    """What it prints; its exit code must be 0."""
    command = [
        str(python.with_name("schemathesis")), "run", f"{address}/openapi.json", "-H", f"api-key: {KEY}", "-c", CHECKS,
        "--seed", "1", "--no-shrink", "--continue-on-failure", "--request-timeout", "100", *options,
    ]  # fmt: skip
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=kept, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def num_generated(text: str) -> int:
    found = re.search(r"(\d+) generated", text)
    return int(found[1]) if found else 0


def test_a_few_requests_of_every_kind(interpreter: Callable[[str], Path], limited: str, tmp_path: Path) -> None:
    said = schemathesis(interpreter("schemathesis"), limited, tmp_path, "-n", "5", "--phases", "fuzzing")
    assert num_generated(said) >= 30


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_requests_of_every_kind(interpreter: Callable[[str], Path], limited: str, tmp_path: Path) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    said = schemathesis(interpreter("schemathesis"), limited, tmp_path, "-n", "100", "--phases", phases)
    assert num_generated(said) >= 3000
