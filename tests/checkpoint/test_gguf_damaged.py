"""Damaged GGUF files: whatever is wrong is a CheckpointError that names the file, and nothing large is allocated."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gguf_samples import METADATA, small_tensors
from gguf_writer import gguf_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostro.checkpoint.gguf import GGUFFile
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import CheckpointError, ModelNotFoundError


def _head(tensors: int = 0, entries: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, entries)


def _text(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _entry(kind: int, value: bytes) -> bytes:
    return _head(entries=1) + _text("key") + struct.pack("<I", kind) + value


def _tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def _one(shape: tuple[int, ...], kind: int = 0, offset: int = 0, data: int = 4096) -> bytes:
    head = _head(1) + _tensor("w", shape, kind, offset)
    return head + bytes(-len(head) % 32 + data)


def _aligned(kind: int, value: bytes) -> bytes:
    return _head(entries=1) + _text("general.alignment") + struct.pack("<I", kind) + value


_HUGE = 2**63
_DAMAGED = r"incomplete or damaged, download or convert it again"

MALFORMED: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "magic": (_head(magic=b"ggjt"), r"no GGUF file: it begins with b'ggjt'.*Give a \.gguf file"),
    "short magic": (b"GG", "the magic needs 4 bytes at byte 0, but the file has 2"),
    "version 1": (_head(version=1), "GGUF version 1; ostro reads versions 2 and 3: convert"),
    "version 4": (_head(version=4), "GGUF version 4; ostro reads versions 2 and 3"),
    "version 0": (_head(version=0), "GGUF version 0"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian GGUF.*convert the model again without"),
    "cut header": (_head()[:12], "the number of tensors needs 8 bytes at byte 8"),
    "many tensors": (_head(tensors=_HUGE), "the number of tensors is 9223372036854775808, which cannot fit"),
    "many entries": (_head(entries=_HUGE), "the number of metadata entries is 9223372036854775808, which cannot fit"),
    "long key": (_head(entries=1) + struct.pack("<Q", _HUGE) + bytes(20), "the key of metadata entry 0 needs 92233"),
    "bad key": (_head(entries=1) + _text(b"\xff\xfe") + bytes(20), "the key of metadata entry 0 is not valid UTF-8"),
    "value type": (_entry(13, bytes(8)), "metadata key 'key' has the unknown value type 13; GGUF knows 0 to 12"),
    "cut value": (_entry(10, bytes(7)), "metadata key 'key' needs 8 bytes"),
    "boolean": (_entry(7, b"\x02" + bytes(8)), "metadata key 'key' is a boolean that is neither 0 nor 1"),
    "long string": (_entry(8, struct.pack("<Q", _HUGE)), "metadata key 'key' needs 9223372036854775808 bytes"),
    "bad string": (_entry(8, _text(b"ab\x80")), "metadata key 'key' is not valid UTF-8.* at byte 2 of 3"),
    "array type": (_entry(9, struct.pack("<IQ", 99, 1)), "metadata key 'key' is an array of the unknown value type 99"),
    "long array": (_entry(9, struct.pack("<IQ", 6, _HUGE)), "the length of metadata key 'key' is 9223372036854775808"),
    "many strings": (_entry(9, struct.pack("<IQ", 8, 2**40)), "the length of metadata key 'key' is 1099511627776"),
    "many arrays": (_entry(9, struct.pack("<IQ", 9, 2**40)), "the length of metadata key 'key' is 1099511627776"),
    "cut strings": (
        _entry(9, struct.pack("<IQ", 8, 3) + _text("ok") + _text("also") + struct.pack("<Q", 99)),
        "string 2 of metadata key 'key' needs 99 bytes",
    ),
    "bad string in array": (
        _entry(9, struct.pack("<IQ", 8, 2) + _text("ok") + _text(b"\xc3")),
        "string 1 of metadata key 'key' is not valid UTF-8",
    ),
    "no string left": (
        _entry(9, struct.pack("<IQ", 8, 2) + _text(bytes(8)) + bytes(7)),
        "string 1 of metadata key 'key' needs 8 bytes",
    ),
    "deep arrays": (_entry(9, struct.pack("<IQ", 9, 1) * 40), "metadata key 'key' has arrays nested deeper than 4"),
    "key twice": (
        _head(entries=2) + 2 * (_text("key") + struct.pack("<I", 0) + b"\x01"),
        "metadata key 'key' is given twice",
    ),
    "alignment 0": (_aligned(4, struct.pack("<I", 0)), "general.alignment must be .* from 8 to 1048576, not 0"),
    "alignment 24": (_aligned(4, struct.pack("<I", 24)), "general.alignment must be a power of two.*not 24"),
    "alignment text": (_aligned(8, _text("x")), "general.alignment must be a power of two.*not 'x'"),
    "alignment huge": (_aligned(10, struct.pack("<Q", 2**63)), "general.alignment must be .*not 9223372036854775808"),
    "cut table": (_one((4,))[:50], f"tensor 'w' needs 8 bytes.*{_DAMAGED}"),
    "no dimensions": (_one(()), "tensor 'w' has 0 dimensions; 1 to 4 are possible"),
    "many dimensions": (_one((1, 1, 1, 1, 1)), "tensor 'w' has 5 dimensions"),
    "zero size": (_one((4, 0)), r"tensor 'w' has the shape \(0, 4\), with a size of 0"),
    "overflow": (_one((2**62, 2**62)), f"tensor 'w' ends at byte .*{_DAMAGED}"),
    "refused type": (_one((256,), 23), r"tensor 'w' is of the type IQ4_XS \(number 23\), which ostro does not.*Q4_K_M"),
    "refused ternary": (_one((256,), 34), r"tensor 'w' is of the type TQ1_0 \(number 34\)"),
    "refused fp4": (_one((32,), 39), r"tensor 'w' is of the type MXFP4 \(number 39\)"),
    "unknown type": (_one((32,), 12345), "tensor 'w' is of the unknown type number 12345.* It reads F32, F16"),
    "row length": (_one((100, 2), 12), "tensor 'w' has rows of 100 elements, .* of the 256 elements of a Q4_K"),
    "unaligned": (_one((4,), 0, 4), "tensor 'w' begins at offset 4, which is no multiple of the alignment 32"),
    "offset": (_one((4,), 0, 8192), f"tensor 'w' ends at byte 8272, but the file has 4160 bytes.*{_DAMAGED}"),
    "huge offset": (_one((4,), 0, 2**64 - 32), "tensor 'w' ends at byte 18446744073709551664"),
    "cut data": (_one((1024,))[:-1], "tensor 'w' ends at byte 4160, but the file has 4159 bytes"),
    "tensor twice": (
        _head(2) + _tensor("w", (4,)) + _tensor("w", (4,)) + bytes(100),
        "tensor 'w' is given twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(tmp_path: Path, case: str) -> None:
    data, message = MALFORMED[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as caught:
            GGUFFile(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(".")
    assert peak < 1 << 20


def test_no_such_file_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"none\.gguf: no such file"):
        GGUFFile(tmp_path / "none.gguf")
    with pytest.raises(CheckpointError, match="the file cannot be read"):
        GGUFFile(tmp_path)


# --- arbitrary damage

WHOLE = gguf_bytes({k: v for k, v in METADATA.items() if k != "f64"}, small_tensors())


def _read_or_refuse(path: Path) -> None:
    """Open the file and touch everything in it; nothing but a CheckpointError that names the file may come of it."""
    try:
        file = GGUFFile(path)
    except CheckpointError as error:
        if path.name not in str(error):
            raise AssertionError("the error does not name the file") from error
        return
    for name, info in file.tensor_infos.items():
        expert: int | None = 0 if len(info.shape) == 3 else None
        if len(info.shape) > 3:
            continue
        tensor: Any = file.tensor(name, expert)
        values = tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
        assert values.shape == info.shape[-2:]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, len(WHOLE) - 1),
            st.one_of(
                st.binary(min_size=1, max_size=1), st.sampled_from([b"\xff" * 8, bytes(8), b"\x00" * 7 + b"\x80"])
            ),
        ),
        max_size=4,
    ),
    cut=st.none() | st.integers(0, len(WHOLE)),
)
def test_damage_is_an_error_or_harmless(tmp_path: Path, changes: list[tuple[int, bytes]], cut: int | None) -> None:
    data = bytearray(WHOLE)
    for at, new in changes:
        data[at : at + len(new)] = new
    path = tmp_path / "fuzz.gguf"
    path.write_bytes(bytes(data[:cut]))
    _read_or_refuse(path)


@pytest.mark.parametrize("value", [0x00, 0x80, 0xFF])
def test_every_byte_of_the_head_may_be_wrong(tmp_path: Path, value: int) -> None:
    """Each byte of header, metadata and table in turn."""
    path = tmp_path / "fuzz.gguf"
    path.write_bytes(WHOLE)
    end = min(info.offset for info in GGUFFile(path).tensor_infos.values())
    for at in range(end):
        path.write_bytes(WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :])
        _read_or_refuse(path)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(WHOLE)
    last = max(info.offset + info.nbytes for info in GGUFFile(path).tensor_infos.values())
    for end in range(last):
        path.write_bytes(WHOLE[:end])
        with pytest.raises(CheckpointError, match=r"cut\.gguf"):
            GGUFFile(path)
