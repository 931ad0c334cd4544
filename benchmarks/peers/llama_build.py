"""llama.cpp, built from the source package of llama-cpp-python: downloaded, unpacked and compiled, each once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from peers.rows import PeerError

VERSION = "0.3.36"
"""The llama-cpp-python whose copy of llama.cpp is built."""
TARGETS = ("llama-bench", "llama-batched-bench")
SERVER = "llama-server"
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
)  # fmt: skip

Say = Callable[[str], None]


def build(work: Path, version: str, say: Say, *, server: bool = False) -> Path:
    """The folder with `TARGETS`, and `SERVER` if wanted, built below `work` unless they are there.

    PeerError where a step fails.
    """
    targets = (*TARGETS, SERVER) if server else TARGETS
    home = work / f"llama-cpp-python-{version}"
    binaries = home / "build" / "bin"
    if all((binaries / target).is_file() for target in targets):
        return binaries
    _require_tools()
    home.mkdir(parents=True, exist_ok=True)
    source = _source(work, home, version, say)
    say(f"building llama.cpp in {home / 'build'} (some ten minutes on two cores)")
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    log = home / "build.log"
    log.unlink(missing_ok=True)
    options = (*_OPTIONS, f"-DLLAMA_BUILD_SERVER={'ON' if server else 'OFF'}")
    _logged(("cmake", "-S", source, "-B", home / "build", *generator, *options), log, "configuring llama.cpp")
    jobs = str(os.cpu_count() or 1)
    _logged(("cmake", "--build", home / "build", "-j", jobs, "--target", *targets), log, "building llama.cpp")
    return binaries


def _require_tools() -> None:
    if not shutil.which("cmake"):
        raise PeerError(
            "cmake is needed to build llama.cpp and is not on the PATH: install it (it is in every distribution and, "
            "as 'cmake', on PyPI), or give --llama-bin a folder with llama-bench."
        )
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "c++", "g++", "clang++")):
        raise PeerError("No C++ compiler is on the PATH: install one, or give --llama-bin a folder with llama-bench.")


def _source(work: Path, home: Path, version: str, say: Say) -> Path:
    """The unpacked llama.cpp."""
    source = home / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    if (source / "CMakeLists.txt").is_file():
        return source
    archive = _archive(work, home, version, say)
    say(f"unpacking {archive.name}")
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data")
    if not (source / "CMakeLists.txt").is_file():
        raise PeerError(f"{archive} has no {source.relative_to(home)}: choose another --llama-version.")
    return source


def _archive(work: Path, home: Path, version: str, say: Say) -> Path:
    """The source package. pip reads its metadata with its build backend, which is not always to be had.

    So it is asked twice, in an environment of its own: with a backend that was installed before, then with one that
    pip installs for itself.
    """

    def found() -> Path | None:
        return next(iter(sorted(home.glob(f"llama_cpp_python-{version}*.tar.gz"))), None)

    if archive := found():
        return archive
    say(f"downloading the source package of llama-cpp-python {version}")
    python = virtual_environment(work / "pip", say)
    log = home / "download.log"
    log.unlink(missing_ok=True)
    wanted = ("--no-deps", "--no-binary", "llama-cpp-python", "--dest", home, f"llama-cpp-python=={version}")
    attempts: list[Sequence[object]] = [("download", *wanted)]
    if installed(python, ("scikit-build-core[pyproject]",), log):
        attempts.insert(0, ("download", "--no-build-isolation", *wanted))
    for arguments in attempts:
        try:
            _logged((python, "-m", "pip", *arguments), log, "downloading llama-cpp-python")
        except PeerError as error:
            failure = error
        if archive := found():
            return archive
    raise PeerError(
        f"{failure} Put llama_cpp_python-{version}.tar.gz (its source package on PyPI) into {home} and start again, "
        "or give --llama-bin a folder with llama-bench."
    )


def virtual_environment(folder: Path, say: Say) -> Path:
    """The interpreter of an empty environment in `folder`, made unless it is there."""
    python, made = folder / "bin" / "python", folder / "made"
    if made.is_file():
        return python
    say(f"making the environment {folder}")
    try:
        command = (sys.executable, "-m", "venv", "--clear", folder)
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise PeerError(f"The environment {folder} cannot be made: {(error.stdout or error.stderr).strip()}") from error
    made.touch()
    return python


def installed(python: Path, packages: Sequence[str], log: Path) -> bool:
    """Whether pip could install the packages."""
    try:
        _logged((python, "-m", "pip", "install", *packages), log, f"installing {' '.join(packages)}")
    except PeerError:
        return False
    return True


def _logged(command: Sequence[object], log: Path, what: str) -> None:
    """Run a command with all its output in `log`. PeerError with the last lines where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run([str(part) for part in command], stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        raise PeerError(f"{what[:1].upper()}{what[1:]} failed: {last} (everything is in {log}).")
