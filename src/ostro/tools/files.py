"""Tools by what a person writes on a command line: a built-in name, a Python file, or a JSON file of definitions."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from ostro.chat.messages import Tool, parse_tools
from ostro.errors import PromptError, ToolError
from ostro.tools.functions import FunctionTool
from ostro.tools.web import BUILTIN_NAMES, builtin_tool


def load_tools(sources: Sequence[str]) -> tuple[list[FunctionTool], list[Tool]]:
    """The tools of all sources: those that can be called, and the definitions of JSON files, which have no function.

    A source is `brave_search`, `wolfram_alpha`, a file.py whose functions with @tool are taken, or a file.json. Python
    files are run. ToolError says which source is wrong and why.
    """
    functions: list[FunctionTool] = []
    definitions: list[Tool] = []
    for source in sources:
        if source in BUILTIN_NAMES:
            functions.append(builtin_tool(source))
        elif source.endswith(".py"):
            functions += _of_module(Path(source))
        elif source.endswith(".json"):
            definitions += _of_json(Path(source))
        else:
            raise ToolError(
                f"{source!r} is no source of tools: give a FILE.py, a FILE.json, or one of {', '.join(BUILTIN_NAMES)}."
            )
    names = [*(each.name for each in functions), *(each.name for each in definitions)]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ToolError(f"Two tools are called {name!r}; leave one out, or rename it.")
    return functions, definitions


def _of_module(path: Path) -> list[FunctionTool]:
    module = _run(path.expanduser())
    found = [value for value in vars(module).values() if isinstance(value, FunctionTool)]
    unique = list({id(each): each for each in found}.values())
    if not unique:
        raise ToolError(f"{path} has no tools: put @tool (from ostro.tools) before its functions.")
    return unique


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise ToolError(f"There is no file {path}.")
    name = f"ostro_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up
    try:
        spec.loader.exec_module(module)
    except ToolError:
        raise
    except Exception as error:
        raise ToolError(f"{path} cannot be run: {type(error).__name__}: {error}.") from error
    return module


def _of_json(path: Path) -> list[Tool]:
    try:
        value = json.loads(path.expanduser().read_text(encoding="utf-8"))
        listed = value.get("tools") if isinstance(value, dict) else value
        if not isinstance(listed, list):
            raise PromptError('it must hold a list of definitions, or an object {"tools": [...]}.')
        return list(parse_tools(listed))
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{path} is not valid JSON: {error}.") from None
    except PromptError as error:
        raise ToolError(f"{path}: {error}") from None
