"""Lines that a person types, or that a pipe brings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ostro.cli.console import is_interactive, print_note
from ostro.cli.input import decode

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "


def open_editor() -> Iterator[str]:
    """Messages until the end of input: from the line editor on a terminal, else line by line from stdin."""
    return _typed() if is_interactive() else _piped()


def _piped() -> Iterator[str]:
    for line in sys.stdin.buffer:
        text = decode(line).rstrip("\r\n")
        if text.strip():
            yield text


def _typed() -> Iterator[str]:
    from ostro.cli.chat_commands import HOW_TO_LEAVE

    session = _prompt_session()
    while True:
        try:
            text = session.prompt(PROMPT)
        except KeyboardInterrupt:
            print_note(HOW_TO_LEAVE)
            continue
        except EOFError:
            return
        if text.strip():
            yield text


def _prompt_session() -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    from ostro.cli.chat_commands import COMMANDS

    path = _history_file()
    history: History = InMemoryHistory() if path is None else FileHistory(str(path))
    names = {f"/{name}{' ' * bool(command.argument)}": command.help for name, command in COMMANDS.items()}
    return PromptSession(
        history=history,
        multiline=True,  # so that pasted text keeps its lines; Enter sends all the same
        key_bindings=_keys(),
        completer=WordCompleter(list(names), meta_dict=names, sentence=True, ignore_case=True),
        complete_while_typing=False,
        prompt_continuation="  ",
    )


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history_file() -> Path | None:
    """A file that only this user can read; None where it cannot be had, and history then ends with the program."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state, "ostro", "chat_history").expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError:
        return None
    return path
