"""The options that several commands share: each is defined here once.

A group of options is a frozen dataclass whose fields are `Annotated` types. A command takes the group as one parameter;
`with_groups` shows its fields to typer as options of their own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro import env
from ostro.errors import PromptError

if TYPE_CHECKING:
    from ostro import LLM, SamplingParams

_MODEL_HELP = "A folder, a GGUF file, a hub id, or a short name of `ostro list`. Default: the variable OSTRO_MODEL."
_LOADING = "Loading the model"
_SAMPLING = "Sampling"

ModelArgument = Annotated[str | None, typer.Argument(metavar="MODEL", help=_MODEL_HELP, show_default=False)]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help=_MODEL_HELP, show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a hub repository.", rich_help_panel=_LOADING)
]
Offline = Annotated[bool, typer.Option("--offline", help="Use only what is on this machine.", rich_help_panel=_LOADING)]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="The system message.")]
SafePrompt = Annotated[
    bool, typer.Option("--safe-prompt", help="Put Mistral's guardrail sentences into the system message.")
]

ChatFormatName = Annotated[
    str | None,
    typer.Option("--chat-format", metavar="NAME", help="A prompt format instead of the model's, such as mistral-v3."),
]


class Backend(StrEnum):
    """Values of --backend."""

    auto = "auto"
    cpu = "cpu"
    reference = "reference"
    torch = "torch"


class Dtype(StrEnum):
    """Values of --dtype and --kv-dtype."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; what is not given is left to `LLM`."""

    backend: Annotated[
        Backend,
        typer.Option(metavar="NAME", help="What computes: auto, cpu, reference or torch.", rich_help_panel=_LOADING),
    ] = Backend.auto
    dtype: Annotated[
        Dtype,
        typer.Option(
            metavar="TYPE",
            help="Weights as float32, float16 or bfloat16; auto: as the files store them.",
            rich_help_panel=_LOADING,
        ),
    ] = Dtype.auto
    kv_dtype: Annotated[
        Dtype, typer.Option("--kv-dtype", metavar="TYPE", help="The same for the K/V cache.", rich_help_panel=_LOADING)
    ] = Dtype.auto
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Threads (`ostro doctor` says how many and why).", rich_help_panel=_LOADING
        ),
    ] = None
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Device of the torch backend.", rich_help_panel=_LOADING)
    ] = None
    max_model_len: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Limit of prompt and answer in tokens.", rich_help_panel=_LOADING),
    ] = None
    revision: Revision = None
    offline: Offline = False

    def load(self, model: str, **more: Any) -> LLM:
        """The model, ready to generate; `more` are further arguments of `LLM`."""
        from ostro import LLM

        return LLM(
            model,
            backend=self.backend.value,
            dtype=self.dtype.value,
            kv_dtype=self.kv_dtype.value,
            num_threads=self.threads,
            device=self.device,
            max_model_len=self.max_model_len,
            revision=self.revision,
            offline=self.offline,
            **more,
        )


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are chosen; what is not given is left to `SamplingParams`, which also checks the values."""

    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Most tokens of the answer.", rich_help_panel=_SAMPLING)
    ] = None
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="0: always the likeliest token.", rich_help_panel=_SAMPLING)
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Only the likeliest tokens whose chances add up to X.", rich_help_panel=_SAMPLING
        ),
    ] = None
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Only the N likeliest tokens.", rich_help_panel=_SAMPLING)
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(metavar="X", help="Only tokens of X times the likeliest one's chance.", rich_help_panel=_SAMPLING),
    ] = None
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The same seed, the same answer.", rich_help_panel=_SAMPLING)
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End where TEXT appears; may be repeated.", rich_help_panel=_SAMPLING),
    ] = None
    presence_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="Against tokens that have been used.", rich_help_panel=_SAMPLING)
    ] = None
    frequency_penalty: Annotated[
        float | None, typer.Option(metavar="X", help="The same, for each use.", rich_help_panel=_SAMPLING)
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(metavar="X", help="Divides the scores of tokens of prompt and answer.", rich_help_panel=_SAMPLING),
    ] = None

    def given(self) -> dict[str, Any]:
        """The options that the user gave."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: value for name, value in values.items() if value is not None and value is not False and value != []
        }

    def params(self, **more: Any) -> SamplingParams:
        """The sampling parameters; `more` are further arguments of `SamplingParams`. RequestError for bad values."""
        from ostro import SamplingParams

        return SamplingParams(**{**self.given(), **more})


def model_or_default(given: str | None, usage: str) -> str:
    """The model that was given, or that OSTRO_MODEL names; wrong usage where there is none. `usage` is an example."""
    model = given or env.model()
    if model is None:
        raise typer.BadParameter(
            f"No model was given. Name one, such as: {usage} "
            "(a folder, a GGUF file, a hub id, or a short name of `ostro list`), or set the variable OSTRO_MODEL.",
            param_hint="MODEL",
        )
    return model


def require_chat_format(llm: LLM, name: str, chat_format: str | None) -> None:
    """PromptError for a format that does not exist, or, with the command to use instead, a model that knows no chat."""
    from ostro.chat import choose_format, named_format

    if chat_format is not None:
        named_format(chat_format)
        return
    try:
        choose_format(llm.tokenizer, llm.config.family, llm.tokenizer.chat_template)
    except PromptError as error:
        raise PromptError(f"{error} Here: `ostro generate -m {name} TEXT`, or --chat-format NAME.") from None


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer shall see it: parameters that are dataclasses are replaced by their fields."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: p.annotation
        for name, p in signature.parameters.items()
        if isinstance(p.annotation, type) and is_dataclass(p.annotation)
    }
    parameters = [
        q for p in signature.parameters.values() for q in (_fields_of(p) if p.name in groups else [_named(p)])
    ]

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
        command(**values)

    del expanded.__wrapped__
    setattr(expanded, "__signature__", inspect.Signature(parameters))  # noqa: B010 - mypy knows no such attribute
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    return expanded


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _fields_of(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    hints = inspect.get_annotations(parameter.annotation, eval_str=True)
    for base in parameter.annotation.__mro__[1:-1]:
        hints = {**inspect.get_annotations(base, eval_str=True), **hints}
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(parameter.annotation)
    ]
