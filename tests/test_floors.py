"""Imports only point down: the floors of docs/architecture.md, proved on the syntax tree of every file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ostro

ROOT = Path(__file__).parents[1] / "src" / "ostro"

FLOORS: dict[str, int] = {
    "errors": 0, "log": 0, "env": 0, "machine": 0, "pages": 0, "plots": 0, "json_schema": 0, "config": 0,
    "tokenizer": 1, "chat": 1, "checkpoint": 1, "images": 1, "endpoint": 1,
    "ops": 2,
    "models": 3,
    "cache": 4,
    "engine": 5,
    "llm": 6, "transformers": 6, "embeddings": 6,
    "quantize": 7, "evaluate": 7, "finetune": 7, "rag": 7, "bench": 7,
    "tools": 7,
    "server": 8, "cli": 8,
}  # fmt: skip
SIDEWAYS = {("chat", "tokenizer"), ("cli", "server")}
FREE = {"__init__", "__main__", "__version__"}
NATIVE = ("_native", "ops/cpu.py")  # the C++ module, and the one file that uses it
EXPORTS = {name: home.split(".")[0] for name, home in ostro._HOMES.items()}


def imports_of(path: Path) -> list[tuple[str, int]]:
    """Second name of every `ostro.X` that the file imports, with its line."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(a.name.split(".")[1], node.lineno) for a in node.names if a.name.startswith("ostro.")]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write absolute imports, so that the floors can be read"
            if node.module == "ostro":
                found += [(EXPORTS.get(a.name, a.name), node.lineno) for a in node.names]
            elif node.module and node.module.startswith("ostro."):
                found.append((node.module.split(".")[1], node.lineno))
    return found


def violation(file: str, imported: str) -> str | None:
    """Why `file`, a path below the package such as ops/cpu.py, may not import `imported`, or None."""
    part = file.split("/")[0].removesuffix(".py")
    if imported == NATIVE[0]:
        return None if file == NATIVE[1] else f"only {NATIVE[1]} may use the C++ module"
    if part in FREE or imported == part or imported in FREE:
        return None
    if imported not in FLOORS:
        return f"{imported} has no floor: give it one here and in docs/architecture.md"
    if FLOORS[part] == 0:
        return None if imported == "errors" else "the ground imports nothing of ours but errors"
    if FLOORS[imported] < FLOORS[part] or (part, imported) in SIDEWAYS:
        return None
    return "sideways" if FLOORS[imported] == FLOORS[part] else "upward"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    file = path.relative_to(ROOT).as_posix()
    part = file.split("/")[0].removesuffix(".py")
    assert part in FLOORS or part in FREE, f"{part} has no floor"
    wrong = [f"line {line}: ostro.{name} ({why})" for name, line in imports_of(path) if (why := violation(file, name))]
    assert not wrong, f"{path} imports {', '.join(wrong)}"


def test_a_wrong_import_would_be_seen() -> None:
    assert violation("ops/torch.py", "models") == "upward"
    assert violation("transformers/auto.py", "llm") == "sideways"
    assert violation("tokenizer/load.py", "chat") == "sideways"
    assert violation("chat/render.py", "tokenizer") is None
    assert violation("config/model.py", "log") is not None
    assert violation("machine.py", "env") is not None
    assert violation("env.py", "machine") is not None


def test_one_file_uses_the_native_module() -> None:
    assert violation("ops/cpu.py", "_native") is None
    for file in ("ops/reference.py", "ops/__init__.py", "models/llama.py", "cli/doctor.py", "__init__.py"):
        assert violation(file, "_native") is not None
