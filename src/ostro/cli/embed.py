"""`ostro embed`: texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ostro.cli.console import print_note, print_rows, write
from ostro.cli.options import LoadOptions
from ostro.cli.values import one_of, positive
from ostro.errors import RequestError

if TYPE_CHECKING:
    from ostro.embeddings import Embeddings
    from ostro.embeddings.base import TextEmbedder

INPUT_TYPES = ("text", "query", "document")
POOLINGS = ("mean", "last", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_OF_EVERY_MODEL = ("backend", "threads", "device", "revision", "offline")
_MODEL_HELP = "An embedding model (folder or hub id), or a model that generates. Default: the small wordllama."
_SHOWN_CHARACTERS = 60


def embed(
    load: LoadOptions,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="The texts; else the lines that stdin brings.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help=_MODEL_HELP, show_default=False)
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--file", metavar="FILE", help="A file as one text; may be repeated.")
    ] = None,
    lines: Annotated[
        list[Path] | None, typer.Option("--lines", metavar="FILE", help="Every line of a file as a text of its own.")
    ] = None,
    input_type: Annotated[
        str,
        typer.Option("--input-type", metavar="TYPE", help="text, query or document.", parser=one_of(INPUT_TYPES)),
    ] = "text",
    dimensions: Annotated[
        int | None,
        typer.Option(
            "--dimensions", metavar="N", help="Only the first N numbers, if the model allows it.", parser=positive
        ),
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut off the end of texts that are too long.")] = False,
    pooling: Annotated[
        str | None,
        typer.Option(
            "--pooling",
            metavar="HOW",
            help="mean or last of a model that generates; of a bare encoder what its card says.",
            parser=one_of(POOLINGS),
        ),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a text, with its vector.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the vectors as a NumPy array (.npy).")
    ] = None,
) -> None:
    """Make vectors of texts, near each other where the texts are near in meaning.

    Without --jsonl a table tells how near each text is to the first (1: the same, 0: nothing in common).
    """
    given = _given(texts or [], files or [], lines or [])
    embedder = _open(load, model, pooling)
    kind: Literal["text", "query", "document"] = input_type  # type: ignore[assignment]
    made = embedder.embed(given, input_type=kind, dimensions=dimensions, truncate=truncate)
    for index, was_cut in enumerate(made.truncated):
        if was_cut:
            print_note(f"The end of input {index} was cut off: {embedder.name} takes {embedder.max_tokens} tokens.")
    if out is not None:
        _save(made, out)
    if jsonl:
        _print_lines(embedder, given, made)
    elif out is None:
        _print_table(given, made)


def _given(texts: list[str], files: list[Path], lines: list[Path]) -> list[str]:
    """The texts of the command line, then the files, then their lines; else the lines of stdin."""
    from ostro.cli.input import piped

    found = [*texts, *(_read(path) for path in files)]
    for path in lines:
        found += _read(path).splitlines()
    if not (texts or files or lines):
        found = (piped() or "").splitlines()
    if not found:
        raise typer.BadParameter(
            'Give texts, such as: ostro embed "a cat" "a dog", a --file or --lines, or pipe lines in.',
            param_hint="'TEXT'",
        )
    return found


def _read(path: Path) -> str:
    import sys

    from ostro.cli.input import decode

    name = "stdin" if str(path) == "-" else str(path)
    try:
        data = sys.stdin.buffer.read() if name == "stdin" else path.expanduser().read_bytes()
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror}.", param="input") from None
    return decode(data, name).removesuffix("\n").removesuffix("\r")


def _open(load: LoadOptions, name: str | None, pooling: str | None) -> TextEmbedder:
    """The embedder of a name: an embedding model by itself, or the hidden states of a model that generates."""
    from ostro.checkpoint.hub import resolve
    from ostro.embeddings import PooledEmbedder, open_embedder
    from ostro.embeddings.default import NAME
    from ostro.embeddings.open import is_embedding_model

    options = {"pooling": pooling, "num_threads": load.threads, "device": load.device, "revision": load.revision}
    is_default = name is None or name == NAME
    if not is_default:
        assert name is not None
        path = resolve(name, revision=load.revision, offline=load.offline)
        if not is_embedding_model(path):
            return PooledEmbedder(load.load(name), name=name, pooling=pooling or "mean")  # type: ignore[arg-type]
    _refuse_other_options(load, name or NAME)
    given = {option: value for option, value in options.items() if value is not None}
    return open_embedder(name, backend=load.backend, offline=load.offline, **given)  # type: ignore[arg-type]


def _refuse_other_options(load: LoadOptions, name: str) -> None:
    """Options of loading that an embedding model does not have."""
    for field in fields(LoadOptions):
        if field.name not in _OF_EVERY_MODEL and getattr(load, field.name) != field.default:
            raise typer.BadParameter(
                f"This is for models that generate, and {name} is an embedding model. Leave it out.",
                param_hint=f"'--{field.name.replace('_', '-')}'",
            )


def _save(made: Embeddings, path: Path) -> None:
    import numpy as np

    try:
        with path.expanduser().open("wb") as file:
            np.save(file, made.vectors)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}.", param="out") from None
    print_note(f"{made.vectors.shape[0]} vectors of {made.vectors.shape[1]} numbers are in {path}.")


def _print_lines(embedder: TextEmbedder, texts: Sequence[str], made: Embeddings) -> None:
    import json

    for index, text in enumerate(texts):
        line = {
            "index": index,
            "text": text,
            "embedding": [float(str(number)) for number in made.vectors[index]],  # as short as float32 allows
            "model": embedder.name,
            "num_tokens": made.num_tokens[index],
            "truncated": made.truncated[index],
        }
        write(json.dumps(line, ensure_ascii=False) + "\n")


def _print_table(texts: Sequence[str], made: Embeddings) -> None:
    to_first = made.vectors @ made.vectors[0]
    rows = []
    for index, text in enumerate(texts):
        shown = " ".join(text.split())
        shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 3] + "..."
        rows.append((str(index), str(made.num_tokens[index]), f"{to_first[index]:.3f}", shown))
    print_rows(("#", "TOKENS", "TO FIRST", "TEXT"), rows, right=("#", "TOKENS", "TO FIRST"))
