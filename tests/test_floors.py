"""Imports only point down: the floors of docs/architecture.md, proved on the syntax tree of every file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ostro

ROOT = Path(__file__).parents[1] / "src" / "ostro"

FLOORS: dict[str, int] = {
    "errors": 0, "log": 0, "env": 0, "config": 0,
    "tokenizer": 1, "chat": 1, "checkpoint": 1, "images": 1,
    "ops": 2,
    "models": 3,
    "cache": 4,
    "engine": 5,
    "llm": 6, "transformers": 6,
    "quantize": 7, "evaluate": 7, "finetune": 7, "rag": 7, "bench": 7,
    "server": 8, "cli": 8,
}  # fmt: skip
SIDEWAYS = {("chat", "tokenizer"), ("cli", "server")}
FREE = {"__init__", "__main__", "__version__"}
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


def violation(part: str, imported: str) -> str | None:
    """Why `part` may not import `imported`, or None."""
    if part in FREE or imported == part or imported in FREE or imported == "_native":
        return "only ops/cpu may use the C++ module" if imported == "_native" and part != "ops" else None
    if imported not in FLOORS:
        return f"{imported} has no floor: give it one here and in docs/architecture.md"
    if FLOORS[part] == 0:
        return None if imported == "errors" else "the ground imports nothing of ours but errors"
    if FLOORS[imported] < FLOORS[part] or (part, imported) in SIDEWAYS:
        return None
    return "sideways" if FLOORS[imported] == FLOORS[part] else "upward"


def part_of(path: Path) -> str:
    """The floor's name that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    assert part in FLOORS or part in FREE, f"{part} has no floor"
    wrong = [f"line {line}: ostro.{name} ({why})" for name, line in imports_of(path) if (why := violation(part, name))]
    assert not wrong, f"{path} imports {', '.join(wrong)}"


def test_a_wrong_import_would_be_seen() -> None:
    assert violation("ops", "models") == "upward"
    assert violation("transformers", "llm") == "sideways"
    assert violation("tokenizer", "chat") == "sideways"
    assert violation("chat", "tokenizer") is None
    assert violation("config", "log") is not None
    assert violation("models", "_native") is not None
    assert violation("ops", "_native") is None
