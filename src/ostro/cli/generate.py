"""`ostro generate`: what a model writes after a text, with no chat format around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro.cli.console import print_json, print_note, print_table, stdout, table, write
from ostro.cli.options import Json, LoadOptions, ModelOption, SamplingOptions, model_or_default

if TYPE_CHECKING:
    from ostro import LLM, RequestOutput, SamplingParams
    from ostro.engine.outputs import Logprob

_SAMPLING = "Sampling"


@dataclass(frozen=True)
class AllSamplingOptions(SamplingOptions):
    """The options of a chat, and those that only a raw completion has."""

    min_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Do not end before N tokens.", rich_help_panel=_SAMPLING)
    ] = None
    n: Annotated[
        int | None, typer.Option("--n", "-n", metavar="N", help="How many completions.", rich_help_panel=_SAMPLING)
    ] = None
    logprobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Show the logarithms of chances, and the N likeliest.", rich_help_panel=_SAMPLING
        ),
    ] = None
    stop_token_ids: Annotated[
        list[int] | None,
        typer.Option("--stop-token-id", metavar="ID", help="End at this token; repeatable.", rich_help_panel=_SAMPLING),
    ] = None
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on where the model would end.", rich_help_panel=_SAMPLING)
    ] = False
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=X", help="Add X to the score of a token; repeatable.", rich_help_panel=_SAMPLING),
    ] = None

    include_stop: Annotated[
        bool, typer.Option("--include-stop", help="Keep what ended the text in it.", rich_help_panel=_SAMPLING)
    ] = False
    keep_special: Annotated[
        bool, typer.Option("--keep-special", help="Write control tokens by their names.", rich_help_panel=_SAMPLING)
    ] = False

    def given(self) -> dict[str, Any]:
        """The options that the user gave, under the names that `SamplingParams` has for them."""
        given = super().given()
        if given.pop("include_stop", False):
            given["include_stop_str_in_output"] = True
        if given.pop("keep_special", False):
            given["skip_special_tokens"] = False
        if self.logit_bias:
            given["logit_bias"] = dict(_bias(text) for text in self.logit_bias)
        return given


def generate(
    load: LoadOptions,
    sampling: AllSamplingOptions,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The text to go on with; else what stdin brings.")
    ] = None,
    model: ModelOption = None,
    ids: Annotated[
        str | None, typer.Option("--ids", metavar="1,733,...", help="Token ids instead of a text, taken as they are.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt first.")] = False,
    json: Json = False,
) -> None:
    """Go on with a text.

    The text is taken as it is: no chat format is put around it. An empty one is the BOS token alone.
    """
    from ostro.cli.input import text_or_stdin

    name = model_or_default(model, 'ostro generate -m nemo-base "Once upon a time"')
    if ids is not None and prompt is not None:
        raise typer.BadParameter("Give either a text or --ids, not both.", param_hint="--ids")
    given: str | list[int] = text_or_stdin(prompt) if ids is None else _parse_ids(ids)
    params = sampling.params()
    llm = load.load(name)
    if json:
        from ostro.cli.outputs import result

        print_json(result(name, llm.generate([given], params)[0]))
        return
    if echo:
        write(given if isinstance(given, str) else llm.tokenizer.decode(given, keep_control=True))
    if sampling.logprobs is not None or (sampling.n or 1) > 1:
        _show(llm, llm.generate([given], params)[0])
    else:
        _stream(llm, given, params)


def _stream(llm: LLM, prompt: str | list[int], params: SamplingParams) -> None:
    with llm.stream(prompt, params) as chunks:
        for chunk in chunks:
            write(chunk.text)
    write("\n")


def _show(llm: LLM, output: RequestOutput) -> None:
    many = len(output.outputs) > 1
    for completion in output.outputs:
        if many:
            print_note(f"completion {completion.index + 1} of {len(output.outputs)}")
        write(completion.text + "\n")
        if completion.logprobs is not None:
            _show_logprobs(llm, completion.token_ids, completion.logprobs)


def _show_logprobs(llm: LLM, token_ids: list[int], logprobs: list[dict[int, Logprob]]) -> None:
    rows = table("ID", "TOKEN", "LOGPROB", "RANK", "LIKELIEST", right=("ID", "LOGPROB", "RANK"))
    piece = llm.tokenizer.piece
    for token_id, here in zip(token_ids, logprobs, strict=True):
        chosen, best = here[token_id], sorted(here.items(), key=lambda item: item[1].rank)
        likeliest = "  ".join(f"{piece(i)} {value.logprob:.3f}" for i, value in best)
        rows.add_row(str(token_id), piece(token_id), f"{chosen.logprob:.3f}", str(chosen.rank), likeliest)
    stdout().print()
    print_table(rows)


def _parse_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of token ids, such as 1,733,16289.", param_hint="--ids"
        ) from None


def _bias(text: str) -> tuple[int, float]:
    token_id, _, value = text.partition("=")
    try:
        return int(token_id), float(value)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not of the form ID=X, such as 2=-100.", param_hint="--logit-bias"
        ) from None
