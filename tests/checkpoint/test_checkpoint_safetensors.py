"""Our reader of safetensors files against the library's, and every way in which a file can be wrong."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoint_forms import safetensors_bytes, write_safetensors
from hypothesis import given
from hypothesis import strategies as st

from ostro.checkpoint.safetensors import MAX_HEADER_BYTES, SafetensorsFile
from ostro.errors import CheckpointError

RNG = np.random.default_rng(3)
TENSORS = {
    "a.weight": RNG.standard_normal((3, 4)).astype(np.float32),
    "b.weight": RNG.standard_normal((5,)).astype(np.float16),
    "empty": np.zeros((0, 7), np.float32),
    "scalar": np.array(2.5, np.float32),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_safetensors(tmp_path_factory.mktemp("st") / "good.safetensors", TENSORS).read_bytes()


def open_bytes(tmp_path: Path, content: bytes) -> SafetensorsFile:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return SafetensorsFile(path)


def test_equal_to_the_library_and_not_copied(tmp_path: Path, good: bytes) -> None:
    from safetensors.numpy import load

    file = open_bytes(tmp_path, good)
    expected = load(good)
    assert set(file.infos) == set(expected)
    for name, array in expected.items():
        ours = file.tensor(name)
        assert ours.dtype == array.dtype
        assert np.array_equal(ours, array)
        assert not ours.flags.writeable
        if array.size > 1:
            assert not ours.flags.owndata


def test_the_map_outlives_the_reader(tmp_path: Path, good: bytes) -> None:
    array = open_bytes(tmp_path, good).tensor("a.weight")
    assert np.array_equal(array, TENSORS["a.weight"])


def test_bfloat16_goes_there_and_back(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"w": values}, tmp_path / "model.safetensors")
    ours = SafetensorsFile(tmp_path / "model.safetensors").tensor("w")
    assert ours.dtype == ml_dtypes.bfloat16
    assert np.array_equal(ours.view(np.uint16), values.view(torch.uint16).numpy())


def test_an_unaligned_tensor_is_copied_into_place(tmp_path: Path) -> None:
    values = np.arange(4, dtype=np.float32)
    header = {
        "flag": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [4], "data_offsets": [1, 17]},
    }
    ours = open_bytes(tmp_path, safetensors_bytes(header, b"\1" + values.tobytes())).tensor("w")
    assert np.array_equal(ours, values)
    assert ours.flags.aligned
    assert not ours.flags.writeable


@pytest.mark.parametrize("dtype", ["F64", "I64", "U8", "F8_E4M3", "BOOL"])
def test_other_types_are_refused_as_weights(tmp_path: Path, dtype: str) -> None:
    size = {"F64": 8, "I64": 8}.get(dtype, 1)
    header = {"w": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]}}
    file = open_bytes(tmp_path, safetensors_bytes(header, bytes(2 * size)))
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: tensor w is stored as {dtype}.*F32, F16, BF16"):
        file.tensor("w")


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": offsets}


W = entry()
MALFORMED = {
    "no bytes": (b"", "only 0 bytes"),
    "seven bytes": (b"1234567", "only 7 bytes"),
    "huge header": (struct.pack("<Q", 2**63) + b"{}", "9[0-9]{18} bytes"),
    "header over the limit": (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "are allowed"),
    "header past the end": (safetensors_bytes({"w": W}, length=5000), "the file ends after"),
    "no json": (safetensors_bytes(b"{nonsense"), "not valid JSON"),
    "no utf-8": (safetensors_bytes(b'{"\xff": 1}'), "not valid JSON"),
    "a list": (safetensors_bytes([1, 2]), "must be a JSON object, not list"),
    "very deep": (safetensors_bytes(b"[" * 200_000), "not valid JSON"),
    "a key twice": (safetensors_bytes(b'{"w": 1, "w": 2}'), "the key 'w' is given twice"),
    "a number of 5000 digits": (safetensors_bytes(b'{"w": ' + b"9" * 5000 + b"}"), "not valid JSON"),
    "entry is no object": (safetensors_bytes({"w": 3}), "tensor w: its entry must have"),
    "a field missing": (safetensors_bytes({"w": {"dtype": "F32", "shape": [1]}}), "tensor w: its entry must have"),
    "a field too many": (safetensors_bytes({"w": W | {"scale": 1}}, bytes(4)), "tensor w: its entry must have"),
    "unknown dtype": (safetensors_bytes({"w": entry("F31")}, bytes(4)), "tensor w: dtype 'F31'"),
    "dtype is a list": (safetensors_bytes({"w": entry(["F32"])}, bytes(4)), "tensor w: dtype"),
    "NaN in the shape": (safetensors_bytes({"w": entry(shape=[float("nan")])}, bytes(4)), "tensor w: shape"),
    "infinity as an offset": (safetensors_bytes({"w": entry(offsets=[0, float("inf")])}, bytes(4)), "data_offsets"),
    "true in the shape": (safetensors_bytes({"w": entry(shape=[True])}, bytes(4)), "tensor w: shape"),
    "negative shape": (safetensors_bytes({"w": entry(shape=[-1])}, bytes(4)), "tensor w: shape"),
    "nine dimensions": (safetensors_bytes({"w": entry(shape=[1] * 9)}, bytes(4)), "tensor w: shape"),
    "negative offset": (safetensors_bytes({"w": entry(offsets=[-4, 0])}, bytes(4)), "tensor w: data_offsets"),
    "end before start": (safetensors_bytes({"w": entry(offsets=[4, 0])}, bytes(4)), "tensor w: data_offsets"),
    "three offsets": (safetensors_bytes({"w": entry(offsets=[0, 2, 4])}, bytes(4)), "tensor w: data_offsets"),
    "size and shape differ": (
        safetensors_bytes({"w": entry(shape=[2])}, bytes(4)),
        "tensor w: shape .2,. of F32 needs 8",
    ),
    "past the end": (safetensors_bytes({"w": entry(shape=[2], offsets=[0, 8])}, bytes(4)), "tensor w ends at byte"),
    "half a byte": (safetensors_bytes({"w": entry("F4", [1], [0, 1])}, bytes(1)), "tensor w: shape"),
    "overlap": (safetensors_bytes({"v": W, "w": entry(shape=[2], offsets=[2, 10])}, bytes(10)), "tensor w overlaps"),
    "same place": (safetensors_bytes({"v": W, "w": W}, bytes(4)), "tensor w overlaps"),
    "gap": (safetensors_bytes({"v": W, "w": entry(offsets=[8, 12])}, bytes(12)), "tensor w leaves a gap"),
    "gap at the start": (safetensors_bytes({"w": entry(offsets=[4, 8])}, bytes(8)), "tensor w leaves a gap"),
    "bytes left over": (safetensors_bytes({"w": W}, bytes(9)), "the tensors end at byte"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused_by_name(tmp_path: Path, case: str) -> None:
    content, message = MALFORMED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        open_bytes(tmp_path, content)
    assert "model.safetensors" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        SafetensorsFile(tmp_path)


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, good: bytes, cut: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "model.safetensors"
    path.write_bytes(good[: int(cut * len(good))])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        SafetensorsFile(path)


def test_a_file_cut_within_a_tensor_names_it(tmp_path: Path, good: bytes) -> None:
    last = max(SafetensorsFile(_write(tmp_path / "g", good)).infos.values(), key=lambda info: info.end)
    with pytest.raises(CheckpointError, match=f"model.safetensors: tensor {last.name} ends at byte {last.end}"):
        open_bytes(tmp_path, good[:-1])


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_never_breaks_out(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, at: int, bit: int
) -> None:
    damaged = bytearray(good)
    damaged[at % len(good)] ^= 1 << bit
    path = _write(tmp_path_factory.mktemp("flip") / "model.safetensors", bytes(damaged))
    try:
        file = SafetensorsFile(path)
        for name in file.infos:
            file.tensor(name)
    except CheckpointError:
        pass
