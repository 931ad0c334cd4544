"""The `ostro` command. Nothing heavy is imported here or by any module of this package before a command runs."""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it; to import that takes longer than all that stands here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`sys.argv[1:]` by default) and leave the process with its exit code.

    0: done; 1: an error that the one line on stderr explains; 2: wrong usage; 130: stopped by Ctrl-C.
    """
    try:
        from ostro.cli.app import run

        code = run(args)
    except KeyboardInterrupt:  # pressed before the command had begun, or while it was leaving
        code = 130
    raise SystemExit(code)
