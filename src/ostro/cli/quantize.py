"""`ostro quantize`: a model in 4 or 8 bits, with a report of what that has cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostro.cli.console import decimal_size, facts, print_json, print_note, print_rows, stdout
from ostro.cli.options import BITS, CODEBOOKS, Json, ModelArgument, Offline, Revision, begun, model_or_default
from ostro.cli.values import one_of, positive

if TYPE_CHECKING:
    from ostro.cli.progress import Bar
    from ostro.quantize import Report, Stage

_REPORT = "Report"

Bits = Annotated[
    str,
    typer.Option("--bits", metavar="N", help="4 or 8.", parser=one_of(BITS), autocompletion=begun(BITS)),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write: new, empty, or one to complete.")]
Codebook = Annotated[
    str | None,
    typer.Option(
        "--codebook",
        metavar="NAME",
        help="Values of 4-bit codes: int4 or nf4. Default: int4.",
        parser=one_of(CODEBOOKS),
        autocompletion=begun(CODEBOOKS),
    ),
]
Text = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="Compare on this text, not the built-in.", rich_help_panel=_REPORT),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", metavar="N", help="Tokens to compare on. Default: 1024.", parser=positive,
        rich_help_panel=_REPORT,
    ),
]  # fmt: skip
NoReport = Annotated[
    bool, typer.Option("--no-report", help="Pack and verify, but do not compare.", rich_help_panel=_REPORT)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another packed model in the folder.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads of the cpu.", parser=positive)]


def quantize(
    bits: Bits,
    out: Out,
    model: ModelArgument = None,
    codebook: Codebook = None,
    text: Text = None,
    max_tokens: MaxTokens = None,
    no_report: NoReport = False,
    overwrite: Overwrite = False,
    threads: Threads = None,
    revision: Revision = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Pack a model into 4 or 8 bits a weight.

    ostro quantize nemo --bits 4 --out nemo-4bit

    Every tensor is read back and compared with the source. The report says how far the packed model's predictions are
    from the source's on a text; it is printed, and stored in the folder as report.md.

    When it is interrupted, the same command goes on where it stopped.
    """
    from ostro.cli.progress import Bar
    from ostro.quantize import quantize_model

    name = model_or_default(model, "ostro quantize nemo --bits 4 --out nemo-4bit")
    try:
        with Bar() as bar:
            report = quantize_model(
                name,
                out,
                bits=bits,
                codebook=codebook,
                text=text,
                max_tokens=max_tokens,
                report=not no_report,
                overwrite=overwrite,
                num_threads=threads,
                revision=revision,
                offline=offline,
                progress=lambda stage: _show(bar, stage),
            )
    except KeyboardInterrupt:
        print_note(
            f"Interrupted. The layers that are complete are kept in {out}: run the same command again, and it goes on "
            "from there."
        )
        raise typer.Exit(130) from None
    if json:
        print_json({"path": str(out), **report.to_dict()})
    else:
        _print(report, out)


def _show(bar: Bar, stage: Stage) -> None:
    bar.show(stage.step, stage.done, stage.total, stage.name, resumed=stage.resumed, num_bytes=stage.step == "packing")


def _print(report: Report, out: Path) -> None:
    from ostro.quantize.report import SIZE_COLUMNS, facts_of, size_rows

    facts(facts_of(report))
    stdout().print()
    print_rows(SIZE_COLUMNS, size_rows(report), right=SIZE_COLUMNS[1:4])
    print_note(f"{decimal_size(report.nbytes)} in {out}; `ostro chat {out}` talks with it.")
