"""Folders that `ostro quantize` wrote: safetensors whose matrices are packed for integer kernels.

A packed matrix `X.weight` is stored as the bytes `X.weight.codes` and `X.weight.scales`; `packed.json` says in which of
the layouts of `ostro.checkpoint.packed`. Norms and routers are stored under their own names as floats. Here everything
that the headers, `packed.json` and the configuration say is proved to agree before a weight is used:

    {"format": 1, "tensors": {"X.weight": {"kind": "P4", "rows": N, "cols": K, "codebook": [16 values]}}, ...}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ostro.checkpoint.folder import Weights
from ostro.checkpoint.packed import PACKINGS, PackedTensor, Packing
from ostro.checkpoint.safetensors import SafetensorsFile
from ostro.checkpoint.tensors import Tensor
from ostro.checkpoint.text import read_json, some
from ostro.config import Quantization, read_quantization
from ostro.config.quantization import FORMAT
from ostro.errors import CheckpointError, ConfigError, DamagedError

MANIFEST = "packed.json"
"""The file that names the layout of every packed tensor."""

STATE = ".ostro-convert.json"
"""The file that is there as long as a conversion has not written all; it says which shards are complete."""

_AGAIN = "quantize the model again"
_NOT_ONE = "the folder is damaged or not of one save"
_KEYS = {"kind", "rows", "cols", "codebook", "made"}
_MOST = 1 << 31


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    shape: tuple[int, int]
    codebook: tuple[int, ...]
    file: SafetensorsFile

    @property
    def packing(self) -> Packing:
        return PACKINGS[self.kind]


class PackedFolder:
    """The tensors of a packed folder by their HF names, views of the file's pages.

    CheckpointError, naming file and tensor, where `packed.json` and the safetensors contradict each other.
    """

    def __init__(self, folder: Path, weights: Weights) -> None:
        self._weights = weights
        self._entries = _entries(folder / MANIFEST, weights)
        parts = {name + part for name in self._entries for part in (".codes", ".scales")}
        self._plain = [name for name in weights.holder if name not in parts]
        if twice := [name for name in self._plain if name in self._entries]:
            raise DamagedError(
                f"{weights.holder[twice[0]].path}: tensor {some(twice)} is there packed and not packed: {_NOT_ONE}",
                _AGAIN,
            )

    def stored(self) -> Mapping[str, tuple[Path, tuple[int, ...]]]:
        """File and shape of every tensor."""
        found: dict[str, tuple[Path, tuple[int, ...]]] = {
            name: (entry.file.path, entry.shape) for name, entry in self._entries.items()
        }
        holder = self._weights.holder
        return found | {name: (holder[name].path, holder[name].infos[name].shape) for name in self._plain}

    def plain(self) -> list[str]:
        """Names of the tensors that are not packed."""
        return self._plain

    def tensor(self, name: str) -> Tensor:
        """A packed tensor or a float array; nothing is copied."""
        entry = self._entries.get(name)
        if entry is None:
            return self._weights.holder[name].tensor(name)
        codes, scales = (self._weights.holder[name + part].codes(name + part) for part in (".codes", ".scales"))
        return PackedTensor(entry.kind, entry.shape, codes, scales, entry.codebook)

    def check_bits(self, names: Sequence[str], quantization: Quantization) -> None:
        """CheckpointError where the tensors of the model, `names`, are not what the configuration calls them.

        Every matrix is packed, those of the layers, experts included, in at most `bits`; routers never are.
        """
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                self._check_plain(name, quantization)
            elif is_router(name):
                raise DamagedError(
                    f"{entry.file.path}: tensor {name} is a router, which is never packed: {_NOT_ONE}", _AGAIN
                )
            elif "layers." in name and entry.packing.bits > quantization.bits:
                raise DamagedError(
                    f"{entry.file.path}: tensor {name} is packed as {entry.kind}, {entry.packing.bits} bits, but the "
                    f"configuration says {quantization.bits}: {_NOT_ONE}",
                    _AGAIN,
                )

    def _check_plain(self, name: str, quantization: Quantization) -> None:
        file = self._weights.holder[name]
        if len(file.infos[name].shape) == 2 and not is_router(name):
            raise DamagedError(
                f"{file.path}: tensor {name} is not packed, but the configuration says {quantization.bits} bits: "
                f"{_NOT_ONE}",
                _AGAIN,
            )


@contextmanager
def errors_of_packed(folder: Path) -> Iterator[None]:
    """Errors of a folder that `ostro quantize` wrote, or has begun to write, say how that mends it: nothing of it was
    downloaded. Those of other folders are left as they are.
    """
    try:
        yield
    except CheckpointError as error:
        if (folder / STATE).exists():
            raise CheckpointError(
                f"{folder} is unfinished: `ostro quantize` was ended while it wrote it. The same `ostro quantize` "
                "command goes on with it; then it is a model."
            ) from error
        if not isinstance(error, DamagedError) or not is_packed(folder):
            raise
        raise DamagedError(error.damage, how_to_mend(folder)) from error


def how_to_mend(folder: Path) -> str:
    """What makes a damaged packed folder whole: the command, as far as the folder still says what it was."""
    quantization = _quantization(folder)
    bits = "N" if quantization is None else str(quantization.bits)
    nf4 = " --codebook nf4" if quantization is not None and quantization.codebook == "nf4" else ""
    return f"make the folder again with `ostro quantize MODEL --bits {bits}{nf4} --out {folder} --overwrite`"


def is_packed(folder: Path) -> bool:
    """Whether a folder is what `ostro quantize` makes, damaged or not."""
    return (folder / MANIFEST).exists() or _quantization(folder) is not None


def _quantization(folder: Path) -> Quantization | None:
    config = folder / "config.json"
    try:
        return read_quantization(read_json(config), str(config)) if config.is_file() else None
    except (CheckpointError, ConfigError):
        return None


def is_router(name: str) -> bool:
    """Whether a tensor chooses the experts of a layer."""
    return name.endswith(".block_sparse_moe.gate.weight")


def _entries(path: Path, weights: Weights) -> dict[str, _Entry]:
    if not path.is_file():
        raise DamagedError(f"{path} is missing, which says how the weights are packed: {_NOT_ONE}", _AGAIN)
    manifest = read_json(path)
    if manifest.get("format") != FORMAT or isinstance(manifest.get("format"), bool):
        raise CheckpointError(
            f"{path}: format is {manifest.get('format')!r}, and this ostro reads format {FORMAT}: use a newer ostro, "
            "or quantize the model again."
        )
    tensors = manifest.get("tensors")
    if not isinstance(tensors, dict):
        raise DamagedError(f"{path}: tensors must be an object of names and layouts: {_NOT_ONE}", _AGAIN)
    return {name: _entry(path, name, stated, weights) for name, stated in tensors.items()}


def _entry(path: Path, name: str, stated: object, weights: Weights) -> _Entry:
    def wrong(why: str) -> DamagedError:
        return DamagedError(f"{path}: tensor {name}: {why}: {_NOT_ONE}", _AGAIN)

    if not isinstance(stated, dict) or not set(stated) <= _KEYS:
        raise wrong(f"its entry must be an object of {', '.join(sorted(_KEYS))}")
    kind, rows, cols = (stated.get(key) for key in ("kind", "rows", "cols"))
    if not isinstance(kind, str) or kind not in PACKINGS:
        raise wrong(f"kind {kind!r:.80} is none of {', '.join(PACKINGS)}")
    if not (type(rows) is int and type(cols) is int and 0 < rows < _MOST and 0 < cols < _MOST):
        raise wrong(f"rows {rows!r:.80} and cols {cols!r:.80} must be whole numbers greater than 0")
    packing = PACKINGS[kind]
    codebook = _codebook(stated.get("codebook", []), 16 if packing.bits == 4 else 0)
    if codebook is None:
        expected = "16 whole numbers in -127 .. 127" if packing.bits == 4 else f"empty for {kind}"
        raise wrong(f"codebook {stated.get('codebook')!r:.80} must be {expected}")
    shapes = {".codes": packing.codes_shape(rows, cols), ".scales": packing.scales_shape(rows, cols)}
    for part, shape in shapes.items():
        file = weights.holder.get(name + part)
        if file is None:
            raise wrong(f"{name + part} is in none of the safetensors")
        info = file.infos[name + part]
        if info.dtype != "U8" or info.shape != shape:
            raise DamagedError(
                f"{file.path}: tensor {info.name} is {info.dtype} of shape {info.shape}; {kind} of {rows} rows and "
                f"{cols} columns needs U8 of {shape}: {_NOT_ONE}",
                _AGAIN,
            )
    return _Entry(kind, (rows, cols), codebook, weights.holder[name + ".codes"])


def _codebook(values: object, count: int) -> tuple[int, ...] | None:
    """The values of the codes; None where they are not `count` integers that kernels can multiply."""
    if not isinstance(values, list) or len(values) != count:
        return None
    return tuple(values) if all(type(v) is int and -127 <= v <= 127 for v in values) else None
