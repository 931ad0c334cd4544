"""Running a client's program in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}


def run_program(python: Path, program: str, *args: str, cwd: Path | None = None, **variables: str) -> Any:
    """The JSON that a program prints; it sees nothing of our environment but what it needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [str(python), str(PROGRAMS / f"{program}.py"), *args]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        env=kept | _OFFLINE | variables,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
