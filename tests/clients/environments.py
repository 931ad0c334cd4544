"""The environments of the client packages: one for each set of versions that go together, made once by pip.

    python tests/clients/environments.py            # makes those of the default tests
    python tests/clients/environments.py --all

`requirements/NAME.txt` has every package of an environment with its version; they are installed as they stand there,
since some of them state bounds that the index does not meet. The environments lie below the folder that
OSTRO_CLIENT_ENVS names, by default build/clients.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

DEFAULT = ("current", "tutorial", "mistral-0.0", "mistral-0.4", "mistral-1", "schemathesis")
SLOW = ("mistral-2",)
VARIABLE = "OSTRO_CLIENT_ENVS"

_REQUIREMENTS = Path(__file__).parent / "requirements"
_ROOT = Path(__file__).parents[2]


def folder(name: str) -> Path:
    """Where an environment lies."""
    return Path(os.environ.get(VARIABLE) or _ROOT / "build" / "clients").absolute() / name


def python_of(name: str) -> Path | None:
    """The interpreter of an environment, None where it is not made or was made from other requirements."""
    stamp = folder(name) / ".made-from"
    is_made = stamp.is_file() and stamp.read_text(encoding="utf-8") == _digest(name)
    return folder(name) / "bin" / "python" if is_made else None


def make(name: str) -> Path:
    """The interpreter of an environment, which is made if need be."""
    found = python_of(name)
    if found is not None:
        return found
    place = folder(name)
    venv.create(place, clear=True, with_pip=False)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "-r", str(_REQUIREMENTS / f"{name}.txt")], check=True)
    (place / ".made-from").write_text(_digest(name), encoding="utf-8")
    return python


def _digest(name: str) -> str:
    said = (_REQUIREMENTS / f"{name}.txt").read_bytes() + sys.version.encode()
    return hashlib.sha256(said).hexdigest()


def main() -> None:
    """Make the environments; those that are there already cost nothing."""
    for name in (*DEFAULT, *(SLOW if "--all" in sys.argv[1:] else ())):
        if python_of(name) is None:
            print(f"the clients' environment {name}", file=sys.stderr, flush=True)
            make(name)


if __name__ == "__main__":
    main()
