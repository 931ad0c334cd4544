"""Running a client's program in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}


def run_program(python: Path, program: str, *args: str, cwd: Path | None = None, **variables: str) -> Any:
    """The JSON that a program prints; it sees nothing of our environment but what it needs."""
    return json.loads(_run([str(python), str(PROGRAMS / f"{program}.py"), *args], cwd, variables))


def run_code(python: Path, code: str, folder: Path) -> str:
    """What a piece of code prints that is run from an empty folder."""
    return _run([str(python), "-c", code], folder, {})


def _run(command: list[str], cwd: Path | None, variables: Mapping[str, str]) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        env=kept | _OFFLINE | dict(variables),
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
