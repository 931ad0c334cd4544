"""GGUF files: values and tensors come back as written, and whatever is wrong is a CheckpointError that names it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gguf_writer import Tensor, Typed, gguf_bytes, random_blocks, write_gguf, write_split_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostro.checkpoint.gguf import GGUFFile, TensorInfo
from ostro.checkpoint.gguf_blocks import BLOCKS
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import CheckpointError, ModelNotFoundError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"

METADATA: dict[str, object] = {
    "u8": Typed(0, 255),
    "i8": Typed(1, -128),
    "u16": Typed(2, 65535),
    "i16": Typed(3, -32768),
    "u32": 2**32 - 1,
    "i32": -5,
    "f32": 1.5,
    "yes": True,
    "no": False,
    "text": "한글 🙂",
    "empty": "",
    "u64": 2**64 - 1,
    "i64": -(2**63),
    "f64": Typed(12, 0.1),
    "strings": ["a", "", "나"],
    "numbers": [1, 2, 3],
    "floats": [0.5, -0.25],
    "booleans": [True, False],
    "none": [],
    "nested": [[1, 2], [3]],
    "nested strings": [["a", "b"], []],
}


def plain(value: object) -> object:
    return value.value if isinstance(value, Typed) else value


def small_tensors() -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    return {
        "norm": rng.standard_normal(5).astype(np.float32),
        "half": rng.standard_normal((3, 4)).astype(np.float16),
        "brain": rng.standard_normal((2, 3)).astype(ml_dtypes.bfloat16),
        "packed": ("Q4_0", (3, 64), random_blocks("Q4_0", (3, 64))),
        "experts": ("Q8_0", (2, 3, 32), random_blocks("Q8_0", (2, 3, 32))),
        "float experts": rng.standard_normal((2, 3, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_every_type(tmp_path: Path, version: int) -> None:
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", METADATA, {}, version))
    assert file.metadata == {key: plain(value) for key, value in METADATA.items()}
    assert {type(value) for value in file.metadata.values()} == {int, float, bool, str, list}
    assert dict(file.tensor_infos) == {}


def test_large_string_arrays(tmp_path: Path) -> None:
    tokens = [f"▁token{i}" for i in range(50_000)]
    assert GGUFFile(write_gguf(tmp_path / "m.gguf", {"tokens": tokens}, {})).metadata["tokens"] == tokens


@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_float_tensors_are_views_of_the_file(tmp_path: Path, alignment: int) -> None:
    tensors = small_tensors()
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", {"general.alignment": alignment}, tensors))
    assert list(file.tensor_infos) == list(tensors)
    for name in ("norm", "half", "brain", "float experts"):
        tensor, expected = file.tensor(name), tensors[name]
        assert isinstance(tensor, np.ndarray)
        assert isinstance(expected, np.ndarray)
        assert tensor.dtype == expected.dtype
        np.testing.assert_array_equal(tensor, expected)
        assert not tensor.flags.writeable
        assert not tensor.flags.owndata
        assert tensor.flags.aligned
        assert file.tensor_infos[name].offset % alignment == 0
    np.testing.assert_array_equal(file.tensor("float experts", 1), tensors["float experts"][1])


@pytest.mark.parametrize("kind", [kind for kind in BLOCKS if BLOCKS[kind].block_size > 1])
def test_packed_tensors_of_every_kind(tmp_path: Path, kind: str) -> None:
    blocks = random_blocks(kind, (4, 512))
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", {}, {"w": (kind, (4, 512), blocks)}))
    assert file.tensor_infos["w"] == TensorInfo("w", (4, 512), kind, file.tensor_infos["w"].offset, blocks.nbytes)
    tensor = file.tensor("w")
    assert isinstance(tensor, QuantizedTensor)
    assert (tensor.kind, tensor.shape, tensor.nbytes) == (kind, (4, 512), blocks.nbytes)
    np.testing.assert_array_equal(tensor.blocks, blocks)
    assert not tensor.blocks.flags.owndata
    values = tensor.dequantize()
    assert values.shape == (4, 512)
    np.testing.assert_array_equal(tensor.rows(np.array([2, 0])).dequantize(), values[[2, 0]])


def test_experts(tmp_path: Path) -> None:
    blocks = random_blocks("Q6_K", (3, 2, 256))
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", {}, {"w": ("Q6_K", (3, 2, 256), blocks)}))
    for expert in range(3):
        tensor = file.tensor("w", expert)
        assert isinstance(tensor, QuantizedTensor)
        assert tensor.shape == (2, 256)
        np.testing.assert_array_equal(tensor.blocks, blocks[2 * expert : 2 * expert + 2])
    for wrong in (3, -1):
        with pytest.raises(CheckpointError, match=f"'w'.* no matrix of expert {wrong}"):
            file.tensor("w", wrong)
    with pytest.raises(CheckpointError, match=r"'w'.*one matrix at a time"):
        file.tensor("w")


def test_a_packed_vector_comes_decoded(tmp_path: Path) -> None:
    blocks = random_blocks("Q8_0", (64,))
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", {}, {"w": ("Q8_0", (64,), blocks)}))
    np.testing.assert_array_equal(file.tensor("w"), BLOCKS["Q8_0"].decode(blocks)[0])


def test_a_tensor_outlives_its_file_object(tmp_path: Path) -> None:
    tensor = GGUFFile(write_gguf(tmp_path / "m.gguf", {}, small_tensors())).tensor("norm")
    np.testing.assert_array_equal(tensor, small_tensors()["norm"])


def test_unknown_tensor_name(tmp_path: Path) -> None:
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", {}, small_tensors()))
    with pytest.raises(CheckpointError, match=r"m\.gguf: there is no tensor 'missing'"):
        file.tensor("missing")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test model is not here")
def test_the_same_weights_as_the_safetensors_form() -> None:
    from safetensors.numpy import load_file

    file, expected = GGUFFile(SHARED / "stories260K.gguf"), load_file(SHARED / "native" / "consolidated.safetensors")
    assert file.metadata["llama.block_count"] == 5
    np.testing.assert_array_equal(file.tensor("token_embd.weight"), expected["tok_embeddings.weight"])
    np.testing.assert_array_equal(file.tensor("blk.4.ffn_down.weight"), expected["layers.4.feed_forward.w2.weight"])


# --- split models


def test_split_model(tmp_path: Path) -> None:
    tensors = small_tensors()
    first = write_split_gguf(tmp_path / "m.gguf", {"general.name": "x"}, tensors, 3)
    file = GGUFFile(first)
    assert [path.name for path in file.paths] == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert set(file.tensor_infos) == set(tensors)
    assert {info.part for info in file.tensor_infos.values()} == {0, 1, 2}
    assert file.metadata["general.name"] == "x"
    whole = GGUFFile(write_gguf(tmp_path / "m.gguf", {}, tensors))
    for name in ("norm", "half", "brain", "float experts"):
        np.testing.assert_array_equal(file.tensor(name), whole.tensor(name))


def _missing_part(first: Path) -> Path:
    first.with_name("m-00002-of-00003.gguf").unlink()
    return first


def _second_first(first: Path) -> Path:
    return first.with_name("m-00002-of-00003.gguf")


def _renamed(first: Path) -> Path:
    return first.rename(first.with_name("model.gguf"))


def _swapped(first: Path) -> Path:
    second, third = (first.with_name(f"m-0000{i}-of-00003.gguf") for i in (2, 3))
    second.write_bytes(third.read_bytes())
    return first


def _repeated(first: Path) -> Path:
    split = {"split.no": 1, "split.count": 3, "split.tensors.count": 6}
    write_gguf(first.with_name("m-00002-of-00003.gguf"), split, {"norm": np.ones(2, np.float32)})
    return first


def _fewer(first: Path) -> Path:
    split = {"split.no": 1, "split.count": 3, "split.tensors.count": 6}
    write_gguf(first.with_name("m-00002-of-00003.gguf"), split, {"other": np.ones(2, np.float32)})
    return first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_missing_part, r"m-00002-of-00003\.gguf: this part of the split model is missing"),
        (_second_first, r"m-00002-of-00003\.gguf: this is part 2 .*open its first file.*-00001-of-00003\.gguf"),
        (_renamed, r"model\.gguf: this is the first of 3 parts, so its name must end with -00001-of-00003\.gguf"),
        (_swapped, r"m-00002-of-00003\.gguf: split\.no and split\.count are \(2, 3\), but \(1, 3\) is expected"),
        (_repeated, r"m-00002-of-00003\.gguf: tensor 'norm' is in m-00001-of-00003\.gguf already"),
        (_fewer, r"split\.tensors\.count says 6 tensors, the 3 parts have 5"),
    ],
)
def test_wrong_split_models(tmp_path: Path, change: Callable[[Path], Path], message: str) -> None:
    path = change(write_split_gguf(tmp_path / "m.gguf", {}, small_tensors(), 3))
    with pytest.raises(CheckpointError, match=message):
        GGUFFile(path)


# --- malformed files


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
    "refused type": (_one((32,), 20), r"tensor 'w' is of the type IQ4_NL \(number 20\), which ostro does not.*Q4_K_M"),
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


def test_wrong_split_numbers(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"split.count": "many"}, {})
    with pytest.raises(CheckpointError, match=r"'split\.count' must be a whole number, not 'many'"):
        GGUFFile(path)


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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
