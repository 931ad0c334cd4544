"""The options that several commands share, besides those of sampling: each is defined here once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro import env
from ostro.cli.console import decimal_size, print_note
from ostro.cli.values import one_of, positive

if TYPE_CHECKING:
    from ostro import LLM
    from ostro.models.convert import Progress

_MODEL_HELP = (
    "A folder, a GGUF file, a hub id, or a short name of `ostro list`. Default: the variable OSTRO_MODEL, else the "
    "bundled ostro-mini."
)
_LOADING = "Loading the model"
_HUB = "Hugging Face hub"

ModelArgument = Annotated[str | None, typer.Argument(metavar="MODEL", help=_MODEL_HELP, show_default=False)]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help=_MODEL_HELP, show_default=False)
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter", metavar="DIR", help="A LoRA adapter over the model: a folder in peft's format.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Revision = Annotated[
    str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of a repository.", rich_help_panel=_HUB)
]
Offline = Annotated[bool, typer.Option("--offline", help="Use only what is on this machine.", rich_help_panel=_HUB)]


BACKENDS = ("auto", "cpu", "reference", "torch")
DTYPES = ("auto", "float32", "float16", "bfloat16")
SPECULATION = ("auto", "off", "prompt-lookup", "draft-model")
KV_DTYPES = (*DTYPES, "int8")
BITS = ("4", "8")
CODEBOOKS = ("int4", "nf4")


def _option(name: str, metavar: str, help: str, parser: Callable[[str], Any] | None = None) -> Any:
    return typer.Option(name, metavar=metavar, help=help, parser=parser, rich_help_panel=_LOADING)


def begun(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """What a shell offers for an option of a few words."""
    return lambda incomplete: [word for word in allowed if word.startswith(incomplete)]


def _choice(name: str, metavar: str, help: str, allowed: Sequence[str]) -> Any:
    return typer.Option(
        name,
        metavar=metavar,
        help=help,
        parser=one_of(allowed),
        autocompletion=begun(allowed),
        rich_help_panel=_LOADING,
    )


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; what is not given is left to `LLM`."""

    backend: Annotated[str, _choice("--backend", "NAME", "What computes: auto, cpu, reference or torch.", BACKENDS)] = (
        "auto"
    )
    dtype: Annotated[
        str,
        _choice("--dtype", "TYPE", "Weights as float32, float16 or bfloat16; auto: as the files store them.", DTYPES),
    ] = "auto"
    kv_dtype: Annotated[
        str,
        _choice(
            "--kv-dtype",
            "TYPE",
            "K/V cache as float32, float16, bfloat16 or int8; auto: as the weights, float16 if packed.",
            KV_DTYPES,
        ),
    ] = "auto"
    quantize: Annotated[
        str | None, _choice("--quantize", "BITS", "Pack to 4 or 8 bits, once, and keep that in the cache.", BITS)
    ] = None
    threads: Annotated[
        int | None, _option("--threads", "N", "Threads (`ostro doctor` says how many and why).", positive)
    ] = None
    device: Annotated[str | None, _option("--device", "NAME", "Device of the torch backend.")] = None
    max_model_len: Annotated[
        int | None, _option("--max-model-len", "N", "Limit of prompt and answer in tokens.", positive)
    ] = None
    speculation: Annotated[
        str,
        _choice("--speculation", "HOW", "Several tokens a step: auto, off, prompt-lookup or draft-model.", SPECULATION),
    ] = "auto"
    draft_model: Annotated[
        str | None, _option("--draft-model", "MODEL", "A smaller model of the same vocabulary that writes ahead.")
    ] = None
    max_draft_tokens: Annotated[
        int | None, _option("--max-draft-tokens", "N", "Most tokens to write ahead in a step.", positive)
    ] = None
    revision: Revision = None
    offline: Offline = False

    def load(self, model: str, *, adapter: str | None = None, **more: Any) -> LLM:
        """The model, ready to generate, with the adapter of a folder; `more` are further arguments of `LLM`."""
        from ostro import LLM

        self.pack(model)
        if adapter is None:
            return LLM(model, **self.arguments(), **more)
        return LLM(model, adapters={"adapter": adapter}, **self.arguments(), **more).with_adapter("adapter")

    def arguments(self) -> dict[str, Any]:
        """The options as keyword arguments of `LLM`."""
        drafting = {} if self.max_draft_tokens is None else {"max_draft_tokens": self.max_draft_tokens}
        return {
            "backend": self.backend,
            "dtype": self.dtype,
            "kv_dtype": self.kv_dtype,
            "quantize": self.quantize,
            "num_threads": self.threads,
            "device": self.device,
            "max_model_len": self.max_model_len,
            "speculation": self.speculation,
            "draft_model": self.draft_model,
            "revision": self.revision,
            "offline": self.offline,
            **drafting,
        }

    def pack(self, model: str) -> None:
        """Where --quantize was given, have the packed copy made with a bar, so that the load that follows finds it."""
        if self.quantize is not None:
            self._pack(model, self.quantize)

    def _pack(self, model: str, bits: str) -> None:
        from ostro.checkpoint.hub import resolve
        from ostro.cli.progress import Bar
        from ostro.models.convert.cache import packed_copy

        path = resolve(model, revision=self.revision, offline=self.offline)
        is_new = False
        with Bar() as bar:

            def show(step: Progress) -> None:
                nonlocal is_new
                is_new = True
                bar.show("packing", step.done, step.total, step.name, resumed=step.resumed, num_bytes=True)

            packed = packed_copy(path, bits, name=model, dtype=self.dtype, num_threads=self.threads, progress=show)
        if is_new:
            size = f"{decimal_size(packed.nbytes)}, {packed.bits_per_weight:.2f} bits a weight"
            print_note(f"Packed at {bits} bits: {size}, kept in {packed.path}")


def model_or_default(given: str | None, usage: str, adapter: str | None = None, *, or_bundled: bool = False) -> str:
    """The model that was given, or the base that an adapter names, or the model that OSTRO_MODEL names, or with
    `or_bundled` the one that comes with ostro.

    Wrong usage where there is none; `usage` is an example of a right one.
    """
    from ostro.checkpoint import bundled

    model = given or (None if adapter is None else _base_of(adapter)) or env.model()
    if model is None and or_bundled and bundled.bundled_model() is not None:
        return bundled.NAME
    if model is None:
        raise typer.BadParameter(
            f"No model was given. Name one, such as: {usage} "
            "(a folder, a GGUF file, a hub id, or a short name of `ostro list`), or set the variable OSTRO_MODEL.",
            param_hint="'MODEL'",
        )
    return model


def _base_of(adapter: str) -> str | None:
    """The base that an adapter's configuration names."""
    from pathlib import Path

    from ostro.checkpoint.adapter import read_adapter

    return read_adapter(Path(adapter).expanduser()).config.base_model_name_or_path
