"""`ostro pull`: bring a model onto this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from ostro.cli.console import decimal_size, plural, print_json, print_note, write
from ostro.cli.options import Json, Offline, Revision


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A short name of `ostro list`, or OWNER/NAME of the hub; with :PART for one of several GGUF files.",
        ),
    ],
    revision: Revision = None,
    offline: Offline = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bars, and only the path as answer.")
    ] = False,
    json: Json = False,
) -> None:
    """Download a model.

    Only the files that are needed are fetched, and none of them twice.

    An interrupted or killed download is resumed where it stood when you run the same command again.

    Access to some models must be asked for on their page of the Hugging Face hub; then `hf auth login`, or HF_TOKEN.
    """
    from ostro.checkpoint import hub

    try:
        report = hub.pull(name, revision=revision, offline=offline, progress=not (quiet or json))
    except KeyboardInterrupt:
        print_note("Interrupted. What was fetched is kept: run the same command again, and it goes on from there.")
        raise typer.Exit(130) from None
    if json:
        fields = {"name": report.name, "path": str(report.path), "bytes": report.num_bytes, "files": list(report.files)}
        print_json(fields)
    elif quiet:
        write(f"{report.path}\n")
    else:
        size = f"{decimal_size(report.num_bytes)} in {plural(len(report.files), 'file')}"
        write(f"{report.name}: {size}\n{report.path}\n")
