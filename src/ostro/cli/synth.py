"""`ostro synth`: training data that a served model writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostro.cli.console import facts, plural, print_json, print_note, print_rows, stdout
from ostro.cli.options import Json
from ostro.cli.values import positive, positive_number

if TYPE_CHECKING:
    from ostro.finetune.synth import SynthReport

Task = Annotated[Path, typer.Argument(metavar="TASK.yaml", help="What is to be written: kind, topics, limits.")]
EndpointUrl = Annotated[
    str, typer.Option("--endpoint", metavar="URL", help="Server of the OpenAI protocol, such as http://host:8000/v1.")
]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Model that the server is asked for.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="File to write, or to go on with.")]
Count = Annotated[int, typer.Option("--count", metavar="N", help="Records that the file is to have.", parser=positive)]
KeyVariable = Annotated[
    str | None, typer.Option("--api-key-env", metavar="VAR", help="Environment variable that holds the server's key.")
]
Concurrency = Annotated[int, typer.Option("--concurrency", metavar="N", help="Requests at a time.", parser=positive)]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Longest wait for an answer.", parser=positive_number)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file instead of going on with it.")]


def synth(
    task: Task,
    endpoint: EndpointUrl,
    model: Model,
    out: Out,
    count: Count,
    api_key_env: KeyVariable = None,
    concurrency: Concurrency = 4,
    timeout: Timeout = 600.0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Have a served model write training data from seed topics.

    ostro synth task.yaml --endpoint http://127.0.0.1:8000/v1 --model nemo --out train.jsonl --count 1000

    Records are checked against the task's schemas, and those that repeat another, exactly or nearly, are dropped. The
    same command goes on where an interrupted run stopped.
    """
    from ostro.cli.progress import Bar
    from ostro.finetune.synth import Endpoint, SynthTask, synthesize

    described = SynthTask.from_yaml(task)
    server = Endpoint(endpoint, model, api_key=_key(api_key_env), timeout=timeout)
    resumed: list[int] = []

    def show(report: SynthReport) -> None:
        resumed[:] = resumed or [report.records]
        dropped = plural(report.dropped.total(), "record")
        bar.show("writing", report.records, count, f"{dropped} dropped", resumed=resumed[0])

    try:
        with Bar() as bar:
            report = synthesize(
                described, server, out, count=count, concurrency=concurrency, overwrite=overwrite, progress=show
            )
    except KeyboardInterrupt:
        print_note(f"Interrupted. The records so far are kept in {out}: run the same command again, and it goes on.")
        raise typer.Exit(130) from None
    finally:
        server.close()
    if json:
        print_json(report.to_dict())
    else:
        _print(report)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise typer.BadParameter(f"The environment variable {variable} is not set.", param_hint="--api-key-env")
    return key


def _print(report: SynthReport) -> None:
    facts(
        [
            ("records", f"{report.records:,}"),
            ("requests", f"{report.requests:,}"),
            ("tokens written", f"{report.tokens:,}"),
            ("dropped", f"{report.dropped.total():,}"),
        ]
    )
    if report.dropped:
        stdout().print()
        rows = [[f"{number:,}", reason] for reason, number in report.dropped.most_common()]
        print_rows(["dropped", "because"], rows, right=["dropped"])
    print_note(f"The records are in {report.path}; `ostro finetune` reads them as they are.")
