"""`ostro chat`: talk with a model in the terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ostro.cli.console import count, print_note
from ostro.cli.options import (
    ChatFormatName,
    LoadOptions,
    ModelArgument,
    SafePrompt,
    SamplingOptions,
    System,
    model_or_default,
    require_chat_format,
)

if TYPE_CHECKING:
    from ostro import LLM

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes: neither the greeting nor tokens and speed.")]


def chat(
    load: LoadOptions,
    sampling: SamplingOptions,
    model: ModelArgument = None,
    system: System = None,
    safe_prompt: SafePrompt = False,
    chat_format: ChatFormatName = None,
    quiet: Quiet = False,
) -> None:
    """Talk with a model.

    Ctrl-C stops an answer, Ctrl-D or /exit leaves, /help lists the commands inside.

    When stdin is no terminal, every line of it is one message.
    """
    from ostro.cli.chat_commands import run_line
    from ostro.cli.chat_session import Session
    from ostro.cli.line_editor import open_editor

    name = model_or_default(model, "ostro chat nemo")
    params = sampling.params()
    if not quiet:
        print_note(f"Loading {name} ...")
    llm = load.load(name, max_num_seqs=1)
    require_chat_format(llm, name, chat_format)
    rendering = {"safe_prompt": safe_prompt, "format": chat_format}
    session = Session(llm, params, system=system, rendering=rendering, quiet=quiet)
    if not quiet:
        print_note(_greeting(llm, name))
    for line in open_editor():
        if not run_line(session, line):
            break


def _greeting(llm: LLM, name: str) -> str:
    size = f"{count(llm.config.num_parameters())} parameters"
    shown = os.path.basename(name.rstrip("/")) or name
    return f"{shown}: {size}, context {llm.max_model_len} tokens, backend {llm.backend}. /help lists the commands."
