"""`ostro generate`: what a model writes after a text, with no chat format around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ostro.cli.console import print_json, print_rows, write
from ostro.cli.options import AdapterOption, Json, LoadOptions, ModelOption, model_or_default
from ostro.cli.sampling_options import AllSamplingOptions

if TYPE_CHECKING:
    from ostro import LLM, RequestOutput, SamplingParams
    from ostro.engine.outputs import Logprob


def generate(
    load: LoadOptions,
    sampling: AllSamplingOptions,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The text to go on with; else what stdin brings.")
    ] = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    ids: Annotated[
        str | None, typer.Option("--ids", metavar="1,733,...", help="Token ids instead of a text, taken as they are.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt first.")] = False,
    json: Json = False,
) -> None:
    """Go on with a text.

    The text is taken as it is: no chat format is put around it. An empty one is the BOS token alone.

    Several completions (--n) each stand under a line "--- 2/3 ---". For a program: --json.
    """
    from ostro.cli.input import text_or_stdin

    usage = 'ostro generate -m nemo-base "Once upon a time"'
    name = model_or_default(model, usage, adapter, or_bundled=True)
    if ids is not None and prompt is not None:
        raise typer.BadParameter("Give either a text or --ids, not both.", param_hint="'--ids'")
    given: str | list[int] = text_or_stdin(prompt) if ids is None else _parse_ids(ids)
    sampling.params()  # what is wrong with the options is said before a model is loaded
    llm = load.load(name, adapter=adapter)
    params = sampling.params(llm.default_params)
    if json:
        from ostro.cli.outputs import result

        print_json(result(name, llm.generate([given], params)[0]))
        return
    shown = (given if isinstance(given, str) else llm.tokenizer.decode(given, keep_control=True)) if echo else ""
    if params.logprobs is not None or params.n > 1:
        _show(llm, llm.generate([given], params)[0], shown)
    else:
        _stream(llm, given, params, shown)


def _stream(llm: LLM, prompt: str | list[int], params: SamplingParams, before: str) -> None:
    write(before)
    with llm.stream(prompt, params) as chunks:
        for chunk in chunks:
            write(chunk.text)
    write("\n")


def _show(llm: LLM, output: RequestOutput, before: str) -> None:
    count = len(output.outputs)
    for completion in output.outputs:
        if count > 1:
            write(f"{chr(10) * (completion.index > 0)}--- {completion.index + 1}/{count} ---\n")
        write(before + completion.text + "\n")
        if completion.logprobs is not None:
            _show_logprobs(llm, completion.token_ids, completion.logprobs)


def _show_logprobs(llm: LLM, token_ids: list[int], logprobs: list[dict[int, Logprob]]) -> None:
    piece = llm.tokenizer.piece
    rows = []
    for token_id, here in zip(token_ids, logprobs, strict=True):
        chosen, best = here[token_id], sorted(here.items(), key=lambda item: item[1].rank)
        likeliest = "  ".join(f"{piece(i)} {value.logprob:.3f}" for i, value in best)
        rows.append((str(token_id), piece(token_id), f"{chosen.logprob:.3f}", str(chosen.rank), likeliest))
    write("\n")
    print_rows(("ID", "TOKEN", "LOGPROB", "RANK", "LIKELIEST"), rows, right=("ID", "LOGPROB", "RANK"))


def _parse_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of token ids, such as 1,733,16289.", param_hint="'--ids'"
        ) from None
