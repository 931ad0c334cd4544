"""Options that say what is put around the messages of a chat."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro.cli.values import date
from ostro.errors import PromptError

if TYPE_CHECKING:
    from ostro import LLM

_PROMPT = "Prompt"

System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="The system message.", rich_help_panel=_PROMPT)
]
SafePrompt = Annotated[
    bool,
    typer.Option(
        "--safe-prompt", help="Put Mistral's guardrail sentences into the system message.", rich_help_panel=_PROMPT
    ),
]
ChatFormatName = Annotated[
    str | None,
    typer.Option(
        "--chat-format",
        metavar="NAME",
        help="A prompt format instead of the model's, such as mistral-v3.",
        rich_help_panel=_PROMPT,
    ),
]
Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        metavar="WHAT",
        help="Tools: FILE.json of definitions; in chat also FILE.py, brave_search, wolfram_alpha. May be repeated.",
        rich_help_panel=_PROMPT,
    ),
]


def today_option(help: str) -> Any:
    """The option --today; its default is the command's."""
    return typer.Option("--today", metavar="DATE", parser=date, help=help, rich_help_panel=_PROMPT)


@dataclass(frozen=True)
class PromptOptions:
    """What stands around the messages of `chat` and `run`."""

    system: System = None
    safe_prompt: SafePrompt = False
    chat_format: ChatFormatName = None
    tools: Tools = None
    today: Annotated[
        datetime.date | None,
        today_option("The date (YYYY-MM-DD) for prompt formats that state one, as Llama's do. Default: today."),
    ] = None

    def rendering(self, *, with_tools: bool = True) -> dict[str, Any]:
        """Arguments of `LLM.render`, with the tools of JSON files. PromptError for one that cannot be read."""
        return {
            "safe_prompt": self.safe_prompt,
            "format": self.chat_format,
            "tools": self._definitions() if with_tools else None,
            "today": self.today or datetime.date.today(),
        }

    def _definitions(self) -> list[Mapping[str, Any]] | None:
        from ostro.chat.llama import BUILTIN_TOOLS
        from ostro.cli.input import read_tools

        if other := [source for source in self.tools or () if source.endswith(".py") or source in BUILTIN_TOOLS]:
            raise PromptError(f"--tools {other[0]}: only `ostro chat` carries calls out; here a FILE.json is taken.")
        return [tool for source in self.tools for tool in read_tools(Path(source))] if self.tools else None


def require_chat_format(llm: LLM, name: str, chat_format: str | None) -> None:
    """PromptError for a format that does not exist, or, with the command to use instead, a model that knows no chat."""
    from ostro.chat import choose_format, named_format

    if chat_format is not None:
        named_format(chat_format)
        return
    try:
        choose_format(llm.tokenizer, llm.config.family, llm.tokenizer.chat_template)
    except PromptError:
        raise PromptError(
            f"{name} is a base model, which has no chat format. Use `ostro generate -m {shlex.quote(name)} TEXT`, or "
            "choose a format with --chat-format NAME (see docs/prompts.md)."
        ) from None
