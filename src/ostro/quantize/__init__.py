"""`ostro quantize`: a packed folder, the proof that it is what it should be, and a report of what packing has cost.

from ostro.quantize import quantize_model
report = quantize_model("Mistral-7B-Instruct-v0.3", "mistral-4bit", bits=4)
report.bits_per_weight, report.comparison.kl_mean
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ostro.checkpoint.hub import resolve
from ostro.checkpoint.open import Checkpoint, open_checkpoint
from ostro.checkpoint.packed_folder import MANIFEST
from ostro.checkpoint.text import read_json
from ostro.errors import RequestError
from ostro.llm.loading import load_tokenizer_of
from ostro.models.convert import Progress, convert, quantization_of
from ostro.models.convert.state import REPORT, locked, write_json, write_text, writing
from ostro.ops import get_ops
from ostro.ops.batch import Int32
from ostro.ops.threads import decide_threads
from ostro.quantize.compare import Comparison, compare, num_steps, windows_of
from ostro.quantize.report import Report, kinds_of, markdown
from ostro.quantize.text import BUILT_IN
from ostro.quantize.verify import verify

__all__ = ["Comparison", "Report", "Stage", "quantize_model"]

MAX_TOKENS = 1024
"""Tokens of the text that the models are compared on, unless another number is given."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the work is: `step` is "packing" (in bytes), "verifying" (in weights) or "comparing" (in layers).

    `done` of `total`; `resumed` of them by an earlier run; `name` is what was done last.
    """

    step: str
    done: int
    total: int
    resumed: int
    name: str


Tell = Callable[[Stage], None]


def quantize_model(
    model: str | Path,
    out: str | Path,
    *,
    bits: int | str,
    codebook: str | None = None,
    text: str | Path | None = None,
    max_tokens: int | None = None,
    report: bool = True,
    overwrite: bool = False,
    num_threads: int | None = None,
    backend: str = "auto",
    revision: str | None = None,
    offline: bool = False,
    progress: Tell | None = None,
) -> Report:
    """Pack `model` into the folder `out`, verify it, compare it with its source, and write the report beside it.

    `bits` is 4 or 8; `codebook` "int4" (the default) or "nf4" for 4 bits. The comparison reads the first `max_tokens`
    (1024 unless given) of `text`, a file, or a built-in text of English and code; `report=False` leaves it out. What
    an ended call has done is found by the next one with the same arguments, which also mends damaged files; `overwrite`
    begins anew.

    Raises RequestError for arguments and folders that cannot be used, CheckpointError for a source that is packed
    already or damaged, and for a packed tensor that is not what its format should make of the source's.
    """
    quantization = quantization_of(bits, codebook)
    _check_wanted(report, text=text, max_tokens=max_tokens)
    source = open_checkpoint(resolve(model, revision=revision, offline=offline))
    tell = progress or _ignore
    windows = _windows(source, text, MAX_TOKENS if max_tokens is None else max_tokens) if report else []
    ops = get_ops(backend, **({} if num_threads is None else {"num_threads": num_threads})) if report else None
    folder = Path(out)
    conversion = convert(
        source, folder, quantization, overwrite=overwrite, num_threads=num_threads, progress=_packing(tell)
    )
    with locked(folder):
        packed = open_checkpoint(folder)
        threads = decide_threads().count if num_threads is None else num_threads
        weights_done = _counted(tell, "verifying", conversion.num_weights)
        fidelity = verify(source, packed, weights_done, num_threads=threads)
        steps = _counted(tell, "comparing", num_steps(source.config))
        comparison = None if ops is None else compare(ops, source, packed, windows, steps)
        finished = Report(
            source=_shown(model),
            source_form=source.form,
            source_bytes=sum(path.stat().st_size for path in source.files),
            bits=quantization.bits,
            codebook=quantization.codebook,
            nbytes=conversion.nbytes,
            num_weights=conversion.num_weights,
            kinds=kinds_of(fidelity),
            requantized=tuple(name for name, tensor in fidelity.items() if tensor.made == "requantized"),
            backend=None if ops is None else ops.name,
            text=None if ops is None else "a built-in text" if text is None else Path(text).name,
            comparison=comparison,
        )
        _write_report(folder, finished)
    return finished


def _write_report(folder: Path, report: Report) -> None:
    with writing(folder):
        write_text(folder / REPORT, markdown(report))
        write_json(folder / MANIFEST, read_json(folder / MANIFEST) | {"report": report.to_dict()})


def _check_wanted(report: bool, **given: object) -> None:
    for name, value in given.items():
        if not report and value is not None:
            raise RequestError(f"{name} is given, but nothing is compared without a report: leave it out.", param=name)


def _shown(model: str | Path) -> str:
    """The model's name without the folders around it, which are this machine's affair."""
    name = os.fspath(model)
    return Path(name).resolve().name if Path(name).expanduser().exists() else name


def _ignore(_stage: Stage) -> None:
    pass


def _packing(tell: Tell) -> Callable[[Progress], None]:
    return lambda p: tell(Stage("packing", p.done, p.total, p.resumed, p.name))


def _counted(tell: Tell, step: str, total: int) -> Callable[[int, str], None]:
    done = 0

    def advance(count: int, name: str) -> None:
        nonlocal done
        done += count
        tell(Stage(step, done, total, 0, name))

    return advance


def _windows(source: Checkpoint, text: str | Path | None, max_tokens: int) -> list[Int32]:
    """The text as ids, in pieces that fit into the model's context."""
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 2:
        raise RequestError(f"max_tokens must be a whole number of at least 2, not {max_tokens!r}.", param="max_tokens")
    tokenizer = load_tokenizer_of(source, source.folder or source.files[0])
    if tokenizer is None:
        raise RequestError(
            f"{source.folder} has no tokenizer, so the report's text cannot be read: put the model's tokenizer files "
            "into the folder, or leave the comparison out (report=False).",
            param="report",
        )
    bos = tokenizer.bos_id if tokenizer.adds_bos else None
    ids = tokenizer.encode(_text(text))[:max_tokens]
    if len(ids) < 2:
        raise RequestError(f"text {text}: {len(ids)} tokens are too few to compare models on.", param="text")
    return windows_of(ids, bos, source.config.max_position_embeddings)


def _text(path: str | Path | None) -> str:
    if path is None:
        return BUILT_IN
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"text {path} cannot be read as UTF-8 text: {error}.", param="text") from None
