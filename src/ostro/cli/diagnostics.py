"""What is told of the inside: the log, and the traceback of an error. Both are options of every command."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

import typer

from ostro.cli.console import print_note, print_warning


@dataclass
class Settings:
    """What holds for the whole command line, as `typer.Context.obj`."""

    debug: bool = False


def _set_verbose(wanted: bool) -> None:
    if wanted:
        log_to_stderr(logging.DEBUG)


def _set_debug(context: typer.Context, wanted: bool) -> None:
    settings = context.find_root().obj
    if wanted and isinstance(settings, Settings):
        settings.debug = True


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log to stderr what is done.", callback=_set_verbose, is_eager=True)
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug, is_eager=True)
]


@dataclass(frozen=True)
class Diagnostics:
    """The options; their callbacks have acted before a command runs."""

    verbose: Verbose = False
    debug: Debug = False


def log_to_stderr(level: int) -> None:
    """Show the records of ostro from this level on, and nobody else's."""
    logger = logging.getLogger("ostro")
    logger.handlers = [_Handler()]
    logger.propagate = False
    logger.setLevel(level)


class _Handler(logging.Handler):
    """Records as lines on stderr: warnings as warnings, the rest with the name of their logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if record.levelno >= logging.WARNING:
            print_warning(record.getMessage())
        else:
            print_note(f"{record.name}: {record.getMessage()}")
