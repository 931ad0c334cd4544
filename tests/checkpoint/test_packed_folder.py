"""Packed folders: what `convert` writes opens without a copy, and nothing that contradicts itself is believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed_models import copy_of, write_packed, write_source
from safetensors.numpy import load_file, save_file

from ostro.checkpoint.open import open_checkpoint, packed_bits
from ostro.checkpoint.packed import PackedTensor
from ostro.errors import CheckpointError, ConfigError

Q = "model.layers.0.self_attn.q_proj.weight"
EXPERT = "model.layers.1.block_sparse_moe.experts.2.w2.weight"
ROUTER = "model.layers.0.block_sparse_moe.gate.weight"
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts at 4 bits."""
    folder = tmp_path_factory.mktemp("packed")
    write_packed(folder / "moe-4", write_source(folder / "moe", "moe"))
    return folder / "moe-4"


def manifest_of(folder: Path) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((folder / "packed.json").read_text())
    return stated


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the object in a JSON file."""
    stated = json.loads(path.read_text())
    change(stated)
    path.write_text(json.dumps(stated))


def shard_of(folder: Path, name: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / index["weight_map"][name]


def test_tensors_are_views_of_the_files(packed: Path) -> None:
    checkpoint = open_checkpoint(packed)
    assert checkpoint.form == "packed"
    assert checkpoint.quantization is not None
    assert (checkpoint.quantization.bits, checkpoint.quantization.codebook) == (4, "int4")
    assert packed_bits(packed) == 4
    for name, tensor in checkpoint.tensors.items():
        parts = [tensor.codes, tensor.scales] if isinstance(tensor, PackedTensor) else [tensor]
        assert isinstance(tensor, PackedTensor) == (".gate.w" not in name and "norm" not in name)
        for part in parts:
            assert isinstance(part, np.ndarray)
            assert not part.flags.owndata
            assert not part.flags.writeable
    checkpoint.drop_pages()
    assert np.isfinite(checkpoint.tensors[NORM]).all()  # read anew


def test_codes_are_aligned(packed: Path) -> None:
    tensors = open_checkpoint(packed).tensors
    for tensor in tensors.values():
        if isinstance(tensor, PackedTensor):
            assert tensor.codes.ctypes.data % 64 == 0
            assert tensor.scales.ctypes.data % 32 == 0


def test_the_safetensors_library_reads_the_shards(packed: Path, tmp_path: Path) -> None:
    """And a folder that it has written again, without the padding of our headers, is as good."""
    copy = copy_of(packed, tmp_path / "copy")
    before = open_checkpoint(packed).tensors[Q]
    for path in copy.glob("*.safetensors"):
        save_file(load_file(path), path)
    after = open_checkpoint(copy).tensors[Q]
    assert isinstance(before, PackedTensor)
    assert isinstance(after, PackedTensor)
    np.testing.assert_array_equal(after.dequantize(), before.dequantize())


def test_a_head_of_another_task_is_taken_along(tmp_path: Path) -> None:
    write_packed(tmp_path / "packed", write_source(tmp_path / "source"))
    shard = shard_of(tmp_path / "packed", NORM)
    save_file(load_file(shard) | {"score.weight": np.ones((2, 48), np.float32)}, shard)
    rewrite(
        tmp_path / "packed" / "model.safetensors.index.json",
        lambda index: index["weight_map"].update({"score.weight": shard.name}),
    )
    with pytest.raises(CheckpointError, match=r"no tensor score\.weight"):
        open_checkpoint(tmp_path / "packed")
    found = open_checkpoint(tmp_path / "packed", extra_tensors={"score.weight": (2, 48)}, lm_head=False)
    assert isinstance(found.tensors["score.weight"], np.ndarray)
    assert "lm_head.weight" not in found.tensors


def entry(key: str, value: object, name: str = Q) -> Callable[[Path], None]:
    """Damage: one value in packed.json."""

    def damage(folder: Path) -> None:
        def change(stated: dict[str, Any]) -> None:
            stated["tensors"][name][key] = value

        rewrite(folder / "packed.json", change)

    return damage


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder / "config.json", change)


def quantization(**values: object) -> Callable[[Path], None]:
    return config(lambda stated: stated["quantization_config"].update(values))


def manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder / "packed.json", change)


def tensors_of(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Damage: the tensors of the shard that holds `name`, with the index in step."""

    def damage(folder: Path) -> None:
        path = shard_of(folder, name)
        tensors = load_file(path)
        before = set(tensors)
        change(tensors)
        save_file(tensors, path)

        def follow(index: dict[str, Any]) -> None:
            for gone in before - set(tensors):
                del index["weight_map"][gone]
            index["weight_map"].update(dict.fromkeys(set(tensors) - before, path.name))

        rewrite(folder / "model.safetensors.index.json", follow)

    return damage


def unpacked(name: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    """Damage: a matrix that is stored as floats."""

    def damage(folder: Path) -> None:
        def change(tensors: dict[str, Any]) -> None:
            del tensors[f"{name}.codes"], tensors[f"{name}.scales"]
            tensors[name] = np.zeros(shape, np.float32)

        tensors_of(f"{name}.codes", change)(folder)
        manifest(lambda stated: stated["tensors"].pop(name))(folder)

    return damage


def packed_router(folder: Path) -> None:
    """Damage: a router that is packed."""

    def change(tensors: dict[str, Any]) -> None:
        del tensors[ROUTER]
        tensors[f"{ROUTER}.codes"] = np.zeros((1, 2, 512), np.uint8)
        tensors[f"{ROUTER}.scales"] = np.zeros((1, 2, 32), np.uint8)

    tensors_of(ROUTER, change)(folder)
    manifest(lambda stated: stated["tensors"].update({ROUTER: {"kind": "P8", "rows": 3, "cols": 48}}))(folder)


def cut(folder: Path) -> None:
    path = shard_of(folder, f"{Q}.codes")
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "packed.json").unlink(), r"packed\.json is missing"),
    "manifest is no object": (lambda f: (f / "packed.json").write_text("[]"), "must be a JSON object"),
    "format of the manifest": (manifest(lambda m: m.update(format=2)), r"packed\.json: format is 2"),
    "no tensors": (manifest(lambda m: m.pop("tensors")), "tensors must be an object"),
    "entry is no object": (manifest(lambda m: m["tensors"].update({Q: 3})), f"tensor {Q}: its entry"),
    "unknown key": (entry("zero_point", 3), f"tensor {Q}: its entry must be an object of"),
    "unknown kind": (entry("kind", "P3"), f"tensor {Q}: kind 'P3' is none of P4"),
    "kind is no text": (entry("kind", ["P4"]), "is none of P4"),
    "other kind": (entry("kind", "P4M"), rf"tensor {Q}\.scales is U8 of shape \(3, 1, 160\); P4M of 48 rows"),
    "rows": (entry("rows", 96), rf"tensor {Q}\.codes is U8 of shape \(3, 2, 256\); P4G of 96 rows"),
    "rows that fit the padding": (entry("rows", 47), rf"tensor {Q} has the shape \(47, 48\)"),
    "no rows": (entry("rows", 0), "rows 0 and cols 48 must be whole numbers"),
    "rows are true": (entry("rows", True), "rows True and"),
    "rows without end": (entry("rows", 1 << 40), "must be whole numbers"),
    "codebook of 15": (entry("codebook", list(range(15))), "must be 16 whole numbers in -127 .. 127"),
    "codebook of -128": (entry("codebook", [-128, *range(15)]), "must be 16 whole numbers"),
    "codebook of fractions": (entry("codebook", [0.5, *range(15)]), "must be 16 whole numbers"),
    "codebook of truths": (entry("codebook", [True, *range(15)]), "must be 16 whole numbers"),
    "codebook at 8 bits": (entry("codebook", [0], "lm_head.weight"), "must be empty for P8"),
    "no codes": (tensors_of(f"{Q}.codes", lambda t: t.pop(f"{Q}.codes")), rf"{Q}\.codes is in none"),
    "codes of another type": (
        tensors_of(f"{Q}.codes", lambda t: t.update({f"{Q}.codes": t[f"{Q}.codes"].view(np.int8)})),
        rf"{Q}\.codes is I8",
    ),
    "a tensor too many": (
        tensors_of(NORM, lambda t: t.update({"model.extra.weight": np.zeros(3, np.float32)})),
        r"no tensor model\.extra\.weight",
    ),
    "packed tensor too many": (manifest(lambda m: m["tensors"].update({"x": m["tensors"][Q]})), r"x\.codes is in none"),
    "a tensor missing": (tensors_of(NORM, lambda t: t.pop(NORM)), rf"tensor {NORM} is missing"),
    "an entry missing": (manifest(lambda m: m["tensors"].pop(Q)), rf"no tensor {Q}\.codes"),
    "packed and plain": (
        tensors_of(f"{Q}.codes", lambda t: t.update({Q: np.zeros((48, 48), np.float32)})),
        f"tensor {Q} is there packed and not packed",
    ),
    "an expert that is not packed": (unpacked(EXPERT, (48, 80)), f"tensor {EXPERT} is not packed, .* says 4 bits"),
    "embeddings that are not packed": (unpacked("model.embed_tokens.weight", (300, 48)), "is not packed"),
    "a router that is packed": (packed_router, f"tensor {ROUTER} is a router, which is never packed"),
    "norm of integers": (
        tensors_of(NORM, lambda t: t.update({NORM: np.zeros(48, np.uint8)})), f"tensor {NORM} is stored as U8",
    ),
    "cut": (cut, "cut|damaged"),
    "shard missing": (lambda f: shard_of(f, NORM).unlink(), "not in the folder"),
    "format of the config": (quantization(format=2), "format is 2, and this ostro reads format 1"),
    "bits": (quantization(bits=3), "bits must be 4 or 8, not 3"),
    "codebook": (quantization(codebook="fp4"), "codebook must be int4 or nf4, not 'fp4'"),
    "group size": (quantization(group_size=64), "group_size is 64"),
    "unknown setting": (quantization(desc_act=True), "desc_act"),
    "other method": (quantization(quant_method="gptq"), "quantized by 'gptq'"),
    "method is no text": (quantization(quant_method=3), "quantized by '3'"),
    "no quantization": (config(lambda c: c.pop("quantization_config")), r"no tensor model\.\S+\.codes"),
    "config of another model": (config(lambda c: c.update(vocab_size=301)), r"has the shape \(300, 48\)"),
}  # fmt: skip


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_named(packed: Path, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    folder = copy_of(packed, tmp_path / "damaged")
    change(folder)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        open_checkpoint(folder)


def test_more_bits_than_stated_are_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "p", write_source(tmp_path / "s"), bits=8)
    quantization(bits=4, codebook="int4")(tmp_path / "p")
    with pytest.raises(CheckpointError, match="packed as P8, 8 bits, but the configuration says 4"):
        open_checkpoint(tmp_path / "p")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 1 << 70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_place_is_an_error_or_a_model(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in the manifest or in the quantization, it is refused by name or harmless."""
    folder = tmp_path / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).symlink_to(path)
    name = data.draw(st.sampled_from(["packed.json", "config.json"]))
    stated = json.loads((packed / name).read_text())
    place = stated["quantization_config"] if name == "config.json" else stated
    if name == "packed.json" and data.draw(st.booleans()):
        place = stated["tensors"][data.draw(st.sampled_from(sorted(stated["tensors"])))]
    place[data.draw(st.sampled_from(sorted(place)) | st.text(max_size=3))] = data.draw(JSON)
    (folder / name).unlink()
    (folder / name).write_text(json.dumps(stated))
    open_or_refuse(folder)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_byte_is_an_error_or_a_model(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes are changed, cut off or put in, in any of the files; of the shards in their headers."""
    folder = tmp_path / "bytes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).symlink_to(path)
    name = data.draw(st.sampled_from(sorted(path.name for path in packed.iterdir())))
    raw = bytearray((packed / name).read_bytes())
    at = data.draw(st.integers(0, min(len(raw), 4096) - 1))
    change = data.draw(st.sampled_from(["set", "cut", "insert"]))
    if change == "set":
        raw[at] = data.draw(st.integers(0, 255))
    elif change == "cut":
        del raw[at:]
    else:
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=3))
    (folder / name).unlink()
    (folder / name).write_bytes(raw)
    open_or_refuse(folder)


def open_or_refuse(folder: Path) -> None:
    """Open and read everything, or CheckpointError or ConfigError that names a file."""
    try:
        checkpoint = open_checkpoint(folder)
    except (CheckpointError, ConfigError) as error:
        if str(folder) not in str(error):
            raise
        return
    for tensor in checkpoint.tensors.values():
        values = tensor if isinstance(tensor, np.ndarray) else tensor.dequantize()
        assert values.shape == tensor.shape
