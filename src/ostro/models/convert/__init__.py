"""A checkpoint of any form as a folder of weights packed for integer kernels: `convert`.

    checkpoint = open_checkpoint(Path("Mistral-7B-Instruct-v0.3"))
    convert(checkpoint, Path("mistral-4bit"), Quantization(4, "int4"))

Every layer becomes one file, written under a temporary name, forced to the disk and renamed, so an ended conversion
goes on behind the last complete layer, and of a damaged folder only the damaged layers are made again. A matrix is
read and packed some megabytes of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostro import __version__
from ostro.checkpoint.open import Checkpoint, num_weights, open_checkpoint
from ostro.checkpoint.packed_folder import MANIFEST, STATE
from ostro.checkpoint.safetensors_writer import SafetensorsWriter
from ostro.checkpoint.text import read_json
from ostro.config import Quantization
from ostro.config.quantization import BITS, CODEBOOKS, FORMAT
from ostro.errors import CheckpointError, ConfigError, RequestError
from ostro.log import logger
from ostro.models.convert.files import config_json, source_files, write_files, write_index
from ostro.models.convert.plan import Shard, as_floats, pack_rows, plan_shards, slabs
from ostro.models.convert.state import (
    PART,
    State,
    Written,
    checksum,
    clear,
    fingerprint,
    is_written,
    load_state,
    locked,
    prepare,
    require_space,
    write_json,
    writing,
)

__all__ = ["Conversion", "Progress", "Quantization", "convert", "quantization_of"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` bytes are written, tensor `name` being the last; `resumed` of them by an earlier run."""

    done: int
    total: int
    resumed: int
    name: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """A packed folder. `made` says of every packed matrix whether it is "quantized" (from floats), "exact" (GGUF
    blocks whose values were kept) or "requantized" (GGUF blocks whose values were rounded once more).
    """

    path: Path
    nbytes: int
    num_weights: int
    made: dict[str, str]

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight with its share of the scales, norms and all."""
        return 8 * self.nbytes / self.num_weights


def quantization_of(bits: object, codebook: str | None = None) -> Quantization:
    """The settings, from numbers or text; at 4 bits the codebook is int4 unless another is named.

    RequestError for what is not known.

    >>> quantization_of("4")
    Quantization(bits=4, codebook='int4')
    """
    number = int(bits) if isinstance(bits, str) and bits.isdecimal() else bits
    if isinstance(number, bool) or number not in BITS:
        raise RequestError(f"bits must be {' or '.join(map(str, BITS))}, not {bits!r}.", param="bits")
    assert isinstance(number, int)
    if number == 8 and codebook is not None:
        raise RequestError(f"codebook is {codebook!r}, but 8-bit weights have none: leave it out.", param="codebook")
    if number == 4 and codebook not in (None, *CODEBOOKS):
        raise RequestError(f"codebook must be {' or '.join(CODEBOOKS)}, not {codebook!r}.", param="codebook")
    return Quantization(number, (codebook or "int4") if number == 4 else None)


def convert(
    checkpoint: Checkpoint,
    out: Path,
    quantization: Quantization,
    *,
    overwrite: bool = False,
    wait: bool = False,
    num_threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Conversion:
    """Write `checkpoint` as a packed folder `out`; one that is complete already is left as it is.

    An `out` where the same conversion ended early is completed; of one that it finished and that was damaged since, as
    far as sizes and headers show, the damaged files are made again, with a warning. `overwrite` takes away a finished
    model, and what another conversion left. With `wait`, a process that is writing the same folder is waited for.
    `num_threads` is that of the cpu backend's kernels.

    Raises RequestError for an `out` with other content, of another source or other settings, in use by another
    process, or on a disk without room; CheckpointError for a checkpoint that is packed already or has a damaged tensor.
    """
    if checkpoint.form == "packed":
        assert checkpoint.quantization is not None
        raise CheckpointError(
            f"{checkpoint.folder} is packed at {checkpoint.quantization.bits} bits already. Packing it once more "
            "would only lose more: give the model that it was made from."
        )
    with writing(out):
        prepare(out)
        with locked(out, wait=wait):
            return _Run(checkpoint, out, quantization, num_threads, progress or _ignore).convert(overwrite)


def _ignore(_progress: Progress) -> None:
    pass


class _Run:
    """One call of `convert`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        out: Path,
        quantization: Quantization,
        num_threads: int | None,
        progress: Callable[[Progress], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._out = out
        self._quantization = quantization
        self._num_threads = num_threads
        self._progress = progress
        files = source_files(checkpoint)
        self._request = {
            "source": {"form": checkpoint.form, "files": sorted(files), "fingerprint": fingerprint(files)},
            "quantization": quantization.to_dict(),
            "ostro": __version__,
        }

    def convert(self, overwrite: bool) -> Conversion:
        finished = None if overwrite else self._finished()
        if finished is not None:
            damage = self._damage(finished)
            if damage is None:
                return self._conversion(finished)
            logger.warning("%s is damaged and is mended from the source. %s", self._out, damage)
            return self._mend(finished)
        state = load_state(self._out)
        if state is None or state.request != self._request:
            self._refuse_other(state, overwrite)
            clear(self._out)
            state = State(self._request)
        shards = plan_shards(self._checkpoint, self._quantization)
        self._write_shards(shards, state)
        return self._finish(shards, state)

    def _finished(self) -> dict[str, Any] | None:
        """The manifest of a folder that this very conversion has finished; None for any other."""
        manifest, config = self._out / MANIFEST, self._out / "config.json"
        if (self._out / STATE).exists() or not (manifest.is_file() and config.is_file()):
            return None
        try:
            stated = read_json(manifest)
        except CheckpointError:
            return None
        return stated if {key: stated.get(key) for key in self._request} == self._request else None

    def _damage(self, manifest: dict[str, Any]) -> str | None:
        """What sizes and headers show to be wrong; None where they are right. No weight is read."""
        for name, written in manifest["files"].items():
            path = self._out / name
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                return f"{name} is missing."
            if size != written["bytes"]:
                return f"{name} has {size} bytes instead of {written['bytes']}."
        try:
            open_checkpoint(self._out)
        except (CheckpointError, ConfigError) as error:
            return getattr(error, "damage", str(error))
        return None

    def _mend(self, manifest: dict[str, Any]) -> Conversion:
        """Begin where every shard is written; of those, the ones that are not as they were are then written again."""
        shards = plan_shards(self._checkpoint, self._quantization)
        state = State(self._request)
        for shard in shards:
            if (file := manifest["files"].get(shard.file)) is not None:
                entries = {name: manifest["tensors"][name] for name in shard.layouts}
                state.shards[shard.file] = Written(file["bytes"], file["blake2b"], entries)
        state.save(self._out)
        (self._out / "config.json").unlink()  # from here on it is no model until it is one again
        self._write_shards(shards, state)
        return self._finish(shards, state)

    def _refuse_other(self, state: State | None, overwrite: bool) -> None:
        """What another conversion left is not taken away unasked; a beginning that cannot be read is of no use."""
        finished = (self._out / "config.json").exists()
        if overwrite or (state is None and not finished):
            return
        what = "a finished model" if finished else "the beginning of one"
        raise RequestError(
            f"{self._out} has {what} of another source, other settings or another version of ostro. Give another "
            "folder, or overwrite=True to replace it.",
            param="overwrite",
        )

    def _write_shards(self, shards: list[Shard], state: State) -> None:
        kept = {shard.file for shard in shards if is_written(self._out / shard.file, state.shards.get(shard.file))}
        state.shards = {name: written for name, written in state.shards.items() if name in kept}
        state.save(self._out)
        total = sum(shard.nbytes for shard in shards)
        resumed = sum(shard.nbytes for shard in shards if shard.file in kept)
        require_space(self._out, total - resumed)
        done = resumed
        for shard in shards:
            if shard.file in kept:
                continue

            def tell(nbytes: int, name: str) -> None:
                nonlocal done
                done += nbytes
                self._progress(Progress(done, total, resumed, name))

            state.shards[shard.file] = self._write_shard(shard, tell)
            state.save(self._out)

    def _write_shard(self, shard: Shard, tell: Callable[[int, str], None]) -> Written:
        path = self._out / shard.file
        part = path.with_name(path.name + PART)
        entries: dict[str, dict[str, Any]] = {}
        with SafetensorsWriter(part, shard.slots) as file:
            for name in shard.tensors:
                if name in shard.layouts:
                    entries[name] = self._write_matrix(file, shard, name, tell)
                else:
                    values = as_floats(self._checkpoint.tensors[name])
                    file.write(name, values)
                    tell(values.nbytes, name)
            nbytes = file.size
        part.replace(path)
        return Written(nbytes, checksum(path), entries)

    def _write_matrix(
        self, file: SafetensorsWriter, shard: Shard, name: str, tell: Callable[[int, str], None]
    ) -> dict[str, Any]:
        layout = shard.layouts[name]
        tensor = self._checkpoint.tensors[name]
        rows, cols = tensor.shape
        entry = layout.entry((rows, cols))
        for part in slabs(tensor.shape):
            try:
                packed, kept = pack_rows(tensor, part, layout, self._num_threads)
            except CheckpointError as error:
                raise CheckpointError(f"tensor {name}, counted from row {part.start}: {error}") from error
            if not kept:
                entry["made"] = "requantized"
            file.write(f"{name}.codes", packed.codes)
            file.write(f"{name}.scales", packed.scales)
            self._checkpoint.drop_pages()
            tell(packed.nbytes, name)
        return entry

    def _finish(self, shards: list[Shard], state: State) -> Conversion:
        """The other files, the configuration last: with it the folder is a model."""
        write_files(self._checkpoint, self._out)
        write_index(self._out, {shard.file: shard.slots for shard in shards}, sum(shard.nbytes for shard in shards))
        manifest = {
            "format": FORMAT,
            **self._request,
            "bytes": sum(shard.nbytes for shard in shards),
            "files": {name: {"bytes": w.nbytes, "blake2b": w.blake2b} for name, w in sorted(state.shards.items())},
            "tensors": {name: entry for shard in shards for name, entry in state.shards[shard.file].tensors.items()},
        }
        write_json(self._out / MANIFEST, manifest)
        write_json(self._out / "config.json", config_json(self._checkpoint, self._quantization))
        written = open_checkpoint(self._out)  # the reader's own checks, of what we just wrote
        assert written.tensors.shapes == self._checkpoint.tensors.shapes
        (self._out / STATE).unlink()
        return self._conversion(manifest)

    def _conversion(self, manifest: dict[str, Any]) -> Conversion:
        made = {name: entry["made"] for name, entry in manifest["tensors"].items()}
        return Conversion(self._out, manifest["bytes"], num_weights(self._checkpoint), made)
