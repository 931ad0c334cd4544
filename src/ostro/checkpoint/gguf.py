"""GGUF files: metadata and tensors, mapped into memory and handed out without a copy.

    gguf = GGUFFile("mistral-7b-instruct-v0.3.Q4_K_M.gguf")
    gguf.metadata["llama.block_count"]            # 32
    gguf.tensor("blk.0.attn_q.weight").rows(slice(0, 4)).dequantize()

A model that is split over several files (`NAME-00001-of-00003.gguf`, ...) is opened by its first one.
`gguf_header` reads the head of a file, `gguf_blocks` has the block types.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.gguf_blocks import BLOCKS
from ostro.checkpoint.gguf_header import Header, TensorInfo, read_header
from ostro.checkpoint.safetensors import drop_pages
from ostro.checkpoint.tensors import QuantizedTensor, Tensor
from ostro.errors import CheckpointError, ModelNotFoundError

__all__ = ["GGUFFile", "TensorInfo"]

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class GGUFFile:
    """One model in GGUF form (version 2 or 3, little endian), of one file or of several parts.

    Attributes: `path` as given, `paths` of all parts, `metadata` of the first part (numbers, booleans and strings as
    Python values, arrays as lists), `tensor_infos` by name in the order of the files.

    Raises `ModelNotFoundError` when there is no such file, `CheckpointError` when it or a part of it is missing,
    damaged, cut, of another version or byte order, or holds a tensor type that is not in `BLOCKS`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        data, header = _open(self.path, 0)
        self._check_first(header)
        self.paths = _part_paths(self.path, header)
        self._data = [data]
        infos = {info.name: info for info in header.tensors}
        for part, part_path in enumerate(self.paths[1:], start=1):
            part_data, part_header = _open(part_path, part, self.path)
            self._data.append(part_data)
            _check_part(part_path, part_header, part, len(self.paths))
            for info in part_header.tensors:
                if info.name in infos:
                    first = self.paths[infos[info.name].part]
                    raise CheckpointError(f"{part_path}: tensor {info.name!r} is in {first.name} already.")
                infos[info.name] = info
        self._check_total(header, len(infos))
        self.metadata: dict[str, object] = header.metadata
        self.tensor_infos: Mapping[str, TensorInfo] = MappingProxyType(infos)

    def tensor(self, name: str, expert: int | None = None) -> Tensor:
        """A tensor as it lies in the file: a read-only array for F32, F16 and BF16, else a `QuantizedTensor`.

        `expert` chooses the matrix of a tensor of shape (experts, rows, columns), and is for such tensors only; a
        packed one cannot be had without it. A packed vector comes decoded, float32. Raises `CheckpointError`.
        """
        info = self.tensor_infos.get(name)
        if info is None:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r} in this file.")
        shape, offset, nbytes = info.shape, info.offset, info.nbytes
        if expert is not None:
            if len(shape) != 3 or not 0 <= expert < shape[0]:
                raise CheckpointError(
                    f"{self.path}: tensor {name!r} of shape {shape} has no matrix of expert {expert}."
                )
            nbytes //= shape[0]
            shape, offset = shape[1:], offset + expert * nbytes
        raw = np.frombuffer(self._data[info.part], np.uint8, nbytes, offset)
        if BLOCKS[info.kind].block_size == 1:
            values: npt.NDArray[Any] = raw.view(_float_dtype(info.kind)).reshape(shape)
            return values
        return self._packed(info, shape, raw)

    def drop_pages(self) -> None:
        """Let the system take the pages that were read back; what is read again comes from its cache or the disk."""
        for data in self._data:
            drop_pages(data)

    def _packed(self, info: TensorInfo, shape: tuple[int, ...], raw: npt.NDArray[np.uint8]) -> Tensor:
        block = BLOCKS[info.kind]
        blocks = raw.reshape(-1, block.row_bytes(shape[-1]))
        if len(shape) == 1:
            vector: npt.NDArray[np.float32] = block.decode(blocks).reshape(shape)
            return vector
        if len(shape) > 2:
            raise CheckpointError(
                f"{self.path}: tensor {info.name!r} of type {info.kind} has the shape {shape}; a packed tensor is read "
                "one matrix at a time, by its expert's number."
            )
        return QuantizedTensor(info.kind, (shape[0], shape[1]), blocks, block.decode)

    def _check_first(self, header: Header) -> None:
        number = _integer(header, "split.no", 0, self.path)
        if number:
            raise CheckpointError(
                f"{self.path}: this is part {number + 1} of a split model: open its first file, whose name ends with "
                "-00001-of-" + f"{_integer(header, 'split.count', 1, self.path):05}.gguf."
            )

    def _check_total(self, header: Header, found: int) -> None:
        stated = _integer(header, "split.tensors.count", found, self.path)
        if len(self.paths) > 1 and stated != found:
            raise CheckpointError(
                f"{self.path}: split.tensors.count says {stated} tensors, the {len(self.paths)} parts have {found}: "
                "the parts are not of one model, download them again."
            )


def _open(path: Path, part: int, first: Path | None = None) -> tuple[mmap.mmap, Header]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
    except FileNotFoundError:
        if first is None:
            raise ModelNotFoundError(f"{path}: no such file. Check the path.") from None
        raise CheckpointError(
            f"{path}: this part of the split model is missing. Put it beside {first.name}, or download all parts again."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the file cannot be read: {error}.") from error
    if data is None:
        raise CheckpointError(f"{path}: the file is empty: download it again.")
    return data, read_header(data, path, part)


def _part_paths(path: Path, header: Header) -> tuple[Path, ...]:
    count = _integer(header, "split.count", 1, path)
    if count <= 1:
        return (path,)
    match = _PART.fullmatch(path.name)
    if match is None or int(match["number"]) != 1 or int(match["count"]) != count:
        raise CheckpointError(
            f"{path}: this is the first of {count} parts, so its name must end with -00001-of-{count:05}.gguf and the "
            "other parts must lie beside it. Give the files their original names back."
        )
    return tuple(path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1))


def _check_part(path: Path, header: Header, part: int, count: int) -> None:
    stated = (_integer(header, "split.no", -1, path), _integer(header, "split.count", -1, path))
    if stated != (part, count):
        raise CheckpointError(
            f"{path}: split.no and split.count are {stated}, but {(part, count)} is expected from the name: the parts "
            "are not of one model, download them again."
        )


def _integer(header: Header, key: str, default: int, path: Path) -> int:
    value = header.metadata.get(key, default)
    if not isinstance(value, int) or not -1 <= value < 1 << 31:
        raise CheckpointError(f"{path}: metadata key {key!r} must be a whole number, not {value!r}.")
    return value


def _float_dtype(kind: str) -> np.dtype[Any]:
    if kind == "BF16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype("<f4" if kind == "F32" else "<f2")
