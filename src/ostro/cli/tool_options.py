"""Options that say which tools a chat has, and under which policy they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro.cli.values import positive_number
from ostro.errors import ToolError

if TYPE_CHECKING:
    from ostro.chat import Tool
    from ostro.tools import ToolBox
    from ostro.tools.toolbox import Asking

_TOOLS = "Tools"

ToolPolicies = Annotated[
    list[str] | None,
    typer.Option(
        "--tool-policy",
        metavar="[NAME=]POLICY",
        help="ask (default), allow or deny: for all tools, or for one. May be repeated.",
        rich_help_panel=_TOOLS,
    ),
]
ToolTimeout = Annotated[
    float | None,
    typer.Option(
        "--tool-timeout",
        metavar="SECONDS",
        parser=positive_number,
        help="Longest time of a call. Default: 30.",
        rich_help_panel=_TOOLS,
    ),
]
ToolChoice = Annotated[
    str,
    typer.Option(
        "--tool-choice",
        metavar="CHOICE",
        help="auto, none, required, or a tool's name: what the first answer to a message does.",
        rich_help_panel=_TOOLS,
    ),
]


@dataclass(frozen=True)
class ToolOptions:
    """How the tools of `chat` are used."""

    tool_policy: ToolPolicies = None
    tool_timeout: ToolTimeout = None
    tool_choice: ToolChoice = "auto"

    def open(self, sources: list[str], ask: Asking) -> tuple[ToolBox, list[Tool]]:
        """The tools that can be called, and the definitions that have no function; ToolError for what is wrong."""
        from ostro.tools import ToolBox, load_tools

        functions, definitions = load_tools(sources)
        general, named = self._policies(definitions)
        box = ToolBox(functions, policy=general, policies=named, ask=ask, timeout=self.tool_timeout or 30.0)
        return box, definitions

    def _policies(self, definitions: list[Tool]) -> tuple[Any, dict[str, Any]]:
        general = "ask"
        named: dict[str, Any] = {}
        without = [each.name for each in definitions]
        for given in self.tool_policy or ():
            name, separator, policy = given.rpartition("=")
            if separator and name in without:
                raise ToolError(f"--tool-policy {given}: {name} has no function that could run, only a definition.")
            if separator:
                named[name] = policy
            else:
                general = policy
        return general, named

    def require_tools(self, sources: list[str]) -> None:
        """ToolError where an option is given that means nothing without tools."""
        if not sources and (self.tool_policy or self.tool_timeout or self.tool_choice != "auto"):
            raise ToolError("--tool-policy, --tool-timeout and --tool-choice are about tools: name some with --tools.")
