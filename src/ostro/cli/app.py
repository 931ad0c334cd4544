"""The command line as a whole: global options, the list of commands, and what becomes of an error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from ostro import __version__
from ostro.cli import chat, doctor, generate, info, listing, pull, run_once, tokenize
from ostro.cli.console import print_error, print_warning, replace_what_cannot_be_shown, silence_stdout
from ostro.cli.options import with_groups
from ostro.errors import OstroError

_MODELS, _MACHINE = "Models", "This machine"
COMMANDS = (
    ("chat", chat.chat, None),
    ("run", run_once.run, None),
    ("generate", generate.generate, None),
    ("tokenize", tokenize.tokenize, None),
    ("pull", pull.pull, _MODELS),
    ("list", listing.list_models, _MODELS),
    ("info", info.info, _MODELS),
    ("doctor", doctor.doctor, _MACHINE),
)


@dataclass
class Settings:
    """Global options, as `typer.Context.obj`."""

    debug: bool = False


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. No traceback reaches the user unless --debug was given."""
    settings = Settings()
    replace_what_cannot_be_shown()
    command = typer.main.get_command(_app())
    try:
        command.main(args=None if args is None else list(args), prog_name="ostro", obj=settings)
    except SystemExit as stop:
        return _flushed(stop.code if isinstance(stop.code, int) else 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        silence_stdout()
        return 1
    except Exception as error:
        if settings.debug:
            raise
        print_error(_explain(error))
        return _flushed(1)
    return 0


def _explain(error: Exception) -> str:
    if isinstance(error, OstroError):
        return str(error)
    return (
        f"{type(error).__name__}: {error}. This is a fault of ostro or of this machine, not of your command; "
        "`ostro --debug ...` shows where it comes from."
    )


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    return code


def _app() -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    for name, function, panel in COMMANDS:
        app.command(name, rich_help_panel=panel)(with_groups(function))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ostro {__version__}")
        raise typer.Exit


def _global_options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log to stderr what is done.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Run the open-weight Mistral and Llama families on your own machine."""
    context.obj.debug = debug
    _log_to_stderr(verbose)


class _Handler(logging.Handler):
    """Records as lines on stderr: warnings as warnings, the rest with the name of their logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if record.levelno >= logging.WARNING:
            print_warning(record.getMessage())
        else:
            print(f"{record.name}: {record.getMessage()}", file=sys.stderr)  # noqa: T201


def _log_to_stderr(verbose: bool) -> None:
    logger = logging.getLogger("ostro")
    logger.handlers = [_Handler()]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
