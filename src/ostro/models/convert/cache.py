"""What `LLM(model, quantize=4)` loads: the packed form of a float checkpoint, made once and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ostro import __version__, env
from ostro.checkpoint.open import Checkpoint, num_weights, open_checkpoint, stored_bytes
from ostro.checkpoint.packed_folder import STATE
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.config import Quantization
from ostro.errors import OstroError, RequestError
from ostro.log import logger
from ostro.models.convert import Conversion, Progress, convert, quantization_of
from ostro.models.convert.files import source_files
from ostro.models.convert.state import fingerprint

_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A packed model of the cache: its folder, bytes of its weights, the bits that were asked for and those it has."""

    path: Path
    nbytes: int
    bits: int
    bits_per_weight: float


def packed_copy(
    path: Path,
    quantize: int | str,
    *,
    name: str,
    dtype: str = "auto",
    num_threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PackedModel:
    """The model at `path` packed at `quantize` (4 or 8) bits, from the cache or converted into it now.

    `name` is what the user calls the model; the cache's folder begins with it. Where another process is converting the
    same model, this one waits for it. A beginning that an ended process left is completed, and what was damaged is made
    again, with a warning.

    Raises RequestError for a model that is packed or quantized already and for a `dtype` besides, and the errors of
    `convert`.
    """
    quantization = _quantization(quantize)
    if dtype != "auto":
        raise RequestError(
            f"quantize is {quantize!r} and dtype is {dtype!r}, but packed weights have no other type: leave one of "
            "them out.",
            param="quantize",
        )
    checkpoint = open_checkpoint(path)
    _require_floats(checkpoint, path)
    folder = cache_folder() / _folder_name(checkpoint, quantization, name, path)
    logger.info("%s: packed at %d bits in %s", path, quantization.bits, folder)

    def make(overwrite: bool) -> Conversion:
        return convert(
            checkpoint,
            folder,
            quantization,
            overwrite=overwrite,
            wait=True,
            num_threads=num_threads,
            progress=progress,
        )

    try:
        conversion = _made(make, folder)
    except RequestError as error:
        raise RequestError(f"{error} (The variable OSTRO_CACHE moves the cache.)", param="quantize") from error
    return PackedModel(folder, conversion.nbytes, quantization.bits, conversion.bits_per_weight)


def _made(make: Callable[[bool], Conversion], folder: Path) -> Conversion:
    """The folder found, completed or mended; made anew where it does not say any more what it is."""
    try:
        return make(False)
    except RequestError as error:
        if error.param != "overwrite":
            raise
    # Its name says what belongs there, so what looks like another conversion is this one, damaged.
    logger.warning("%s is damaged and is made again.", folder)
    return make(True)


def cache_folder() -> Path:
    """Where packed models are kept."""
    return env.cache_folder() / "packed"


def cached_models() -> list[PackedModel]:
    """The packed models of the cache, by name; those that are not complete, or not readable, are left out."""
    found: list[PackedModel] = []
    for folder in sorted(cache_folder().glob("*/")):
        if (folder / STATE).exists() or not (folder / "config.json").is_file():
            continue
        try:
            checkpoint = open_checkpoint(folder)
        except OstroError:
            continue
        if checkpoint.quantization is not None:
            nbytes, bits = stored_bytes(checkpoint), checkpoint.quantization.bits
            found.append(PackedModel(folder, nbytes, bits, 8 * nbytes / num_weights(checkpoint)))
    return found


def _quantization(quantize: int | str) -> Quantization:
    try:
        return quantization_of(quantize)
    except RequestError:
        raise RequestError(f"quantize must be 4 or 8 (bits), not {quantize!r}.", param="quantize") from None


def _require_floats(checkpoint: Checkpoint, path: Path) -> None:
    if checkpoint.quantization is not None:
        raise RequestError(
            f"quantize: {path} is packed at {checkpoint.quantization.bits} bits already. Leave quantize out.",
            param="quantize",
        )
    # The rows of q and k are in another order in GGUF files, so to look at them is to copy them.
    names = [name for name in checkpoint.tensors if not name.endswith(("q_proj.weight", "k_proj.weight"))]
    for name in names:
        tensor = checkpoint.tensors[name]
        if isinstance(tensor, QuantizedTensor):
            raise RequestError(
                f"quantize: {path} is quantized already ({tensor.kind}). Leave quantize out, or pack it once with "
                "`ostro quantize`.",
                param="quantize",
            )


def _folder_name(checkpoint: Checkpoint, quantization: Quantization, name: str, path: Path) -> str:
    """The model's name, the bits, and what makes the conversion what it is: files, settings, version."""
    base = Path(name.rstrip("/")).name.split(":")[0] or path.resolve().name
    stated = [fingerprint(source_files(checkpoint)), quantization.to_dict(), __version__]
    digest = hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:16]
    return f"{_UNSAFE.sub('-', base)}-{quantization.bits}bit-{digest}"
