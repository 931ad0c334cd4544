"""GGUF files: values and tensors come back as written, from one file or from several parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_samples import METADATA, small_tensors
from gguf_writer import Typed, random_blocks, write_gguf, write_split_gguf

from ostro.checkpoint.gguf import GGUFFile, TensorInfo
from ostro.checkpoint.gguf_blocks import BLOCKS
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import CheckpointError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"


def plain(value: object) -> object:
    return value.value if isinstance(value, Typed) else value


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


def test_wrong_split_numbers(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"split.count": "many"}, {})
    with pytest.raises(CheckpointError, match=r"'split\.count' must be a whole number, not 'many'"):
        GGUFFile(path)
