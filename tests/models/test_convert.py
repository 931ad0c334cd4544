"""Conversion into packed folders: every form of source, resuming, refusing, and what the folder then says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_forms import config_json, gguf_tensors, hf_tensors, mixtral_json, write_hf, write_model_gguf
from gguf_quantize import quantize
from gguf_writer import random_blocks
from packed_models import STORIES, source_config, write_packed, write_source

from ostro.checkpoint.open import Checkpoint, num_weights, open_checkpoint, stored_bytes
from ostro.checkpoint.packed import INT4, NF4, PACKINGS, PackedTensor
from ostro.checkpoint.packed_folder import is_router
from ostro.checkpoint.packing import HEAD_KINDS, LAYER_KINDS
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import CheckpointError, RequestError
from ostro.models import convert as conversion
from ostro.models.convert import convert, plan, quantization_of
from ostro.models.convert.plan import slabs
from ostro.ops.packing import pack
from ostro.tokenizer import load_tokenizer

needs_stories = pytest.mark.skipif(
    not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout"
)


def values(tensor: Any) -> np.ndarray[Any, Any]:
    return tensor if isinstance(tensor, np.ndarray) else tensor.dequantize()


@pytest.mark.parametrize("form", ["hf", "native", "gguf"])
@pytest.mark.parametrize("kind", ["dense", "tied", "moe"])
def test_every_form_packs_alike(tmp_path: Path, kind: str, form: str) -> None:
    """A packed matrix is what `pack` makes of the whole of it; norms and routers are the source's."""
    source = open_checkpoint(write_source(tmp_path / "s", kind, form))
    made = convert(source, tmp_path / "p", quantization_of(4))
    packed = open_checkpoint(tmp_path / "p")
    assert packed.form == "packed"
    assert set(packed.tensors) == set(source.tensors)
    assert replace(packed.config, family=source.config.family) == source.config
    for name, tensor in packed.tensors.items():
        before = source.tensors[name]
        if "norm" in name or is_router(name):
            assert isinstance(tensor, np.ndarray)
            assert tensor.dtype == values(before).dtype
            np.testing.assert_array_equal(tensor, values(before))
            continue
        assert isinstance(tensor, PackedTensor)
        kept = name == "lm_head.weight" or (kind == "tied" and name == "model.embed_tokens.weight")
        assert tensor.kind == (HEAD_KINDS if kept else LAYER_KINDS)[4], name
        whole = pack(np.ascontiguousarray(values(before)), tensor.kind, INT4)
        np.testing.assert_array_equal(tensor.codes, whole.codes)
        np.testing.assert_array_equal(tensor.scales, whole.scales)
        assert made.made[name] == "quantized"
    assert made.nbytes == stored_bytes(packed)
    assert made.bits_per_weight == pytest.approx(8 * made.nbytes / num_weights(source))


@pytest.mark.parametrize(("bits", "codebook"), [(4, "int4"), (4, "nf4"), (8, None)])
def test_settings(tmp_path: Path, bits: int, codebook: str | None) -> None:
    write_packed(tmp_path / "p", write_source(tmp_path / "s", "moe"), bits, codebook)
    packed = open_checkpoint(tmp_path / "p")
    matrices = {n: t for n, t in packed.tensors.items() if isinstance(t, PackedTensor)}
    assert {t.kind for t in matrices.values()} == {LAYER_KINDS[bits], HEAD_KINDS[bits]}
    books = {t.codebook for t in matrices.values() if t.packing.bits == 4}
    assert books == (set() if bits == 8 else {NF4 if codebook == "nf4" else INT4})
    assert json.loads((tmp_path / "p" / "config.json").read_text())["quantization_config"] == {
        "quant_method": "ostro", "format": 1, "bits": bits, "group_size": 32,
        **({"codebook": codebook} if codebook else {}),
    }  # fmt: skip


def test_the_folder(tmp_path: Path) -> None:
    """A shard for each layer and one for the rest, an index that names every tensor, and no trace of the work."""
    source = write_source(tmp_path / "s")
    (source / "generation_config.json").write_text('{"eos_token_id": 7}')
    (source / "LICENSE").write_text("free")
    (source / "tokenizer_config.json").write_text("{}")
    (source / "README.md").write_text("not copied")
    write_packed(tmp_path / "p", source)
    shards = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == sorted(
        [*shards, "LICENSE", "config.json", "generation_config.json", "model.safetensors.index.json", "packed.json",
         "tokenizer_config.json"]
    )  # fmt: skip
    weight_map = json.loads((tmp_path / "p" / "model.safetensors.index.json").read_text())["weight_map"]
    for name, shard in weight_map.items():
        layer = name.split(".")[2] if name.startswith("model.layers.") else "-1"
        assert shard == shards[int(layer) + 1]
    assert open_checkpoint(tmp_path / "p").config.eos_token_ids == (7, 2)


def test_a_native_model_keeps_its_own_token_ids(tmp_path: Path) -> None:
    """Their files do not heed generation_config.json, so its ids must not come into force by being copied."""
    source = write_source(tmp_path / "s", form="native")
    (source / "generation_config.json").write_text('{"eos_token_id": 7, "temperature": 0.5}')
    write_packed(tmp_path / "p", source)
    assert open_checkpoint(tmp_path / "p").config.eos_token_ids == open_checkpoint(source).config.eos_token_ids
    assert json.loads((tmp_path / "p" / "generation_config.json").read_text()) == {"temperature": 0.5}


GGUF_SIZES = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "num_attention_heads": 4, "vocab_size": 64}


def gguf_source(folder: Path, kinds: dict[str, str], default: str, **changes: Any) -> Checkpoint:
    """A GGUF model whose matrices are random blocks of the kinds that `kinds` gives parts of their names."""
    config = config_json() | GGUF_SIZES | changes
    stored: dict[str, Any] = dict(gguf_tensors(hf_tensors(config), config["head_dim"]))
    for number, (name, tensor) in enumerate(stored.items()):
        if tensor.ndim < 2:
            continue
        kind = next((kind for part, kind in kinds.items() if part in name), default)
        stored[name] = (kind, tensor.shape, random_blocks(kind, tensor.shape, seed=number))
    folder.mkdir(exist_ok=True)
    return open_checkpoint(write_model_gguf(folder / "m.gguf", config, stored))


def test_gguf_blocks_that_fit_keep_their_values(tmp_path: Path) -> None:
    """As Q4_K_M: what has at most as many bits as asked for is laid out anew, the rest is rounded once more."""
    kinds = {"attn_output": "Q4_1", "output": "Q6_K", "ffn_down": "Q6_K", "attn_v": "Q5_0", "ffn_up": "Q4_0"}
    source = gguf_source(tmp_path, kinds, "Q4_K")
    made = convert(source, tmp_path / "p", quantization_of(4))
    packed = open_checkpoint(tmp_path / "p")
    for name, how in made.made.items():
        is_small = not any(part in name for part in ("down_proj", "v_proj"))
        assert how == ("exact" if is_small else "requantized"), name
        if is_small:
            np.testing.assert_array_equal(values(packed.tensors[name]), values(source.tensors[name]))
    head = packed.tensors["lm_head.weight"]
    assert isinstance(head, PackedTensor)
    assert head.kind == "P6S"
    at_8 = convert(source, tmp_path / "p8", quantization_of(8))
    assert set(at_8.made.values()) == {"exact"}
    assert at_8.bits_per_weight < 6


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_every_gguf_type_is_exact_at_8_bits(tmp_path: Path, kind: str) -> None:
    source = gguf_source(tmp_path, {}, kind)
    made = convert(source, tmp_path / "p", quantization_of(8))
    packed = open_checkpoint(tmp_path / "p")
    assert set(made.made.values()) == {"exact"}
    for name in made.made:
        np.testing.assert_array_equal(values(packed.tensors[name]), values(source.tensors[name]))


def test_what_has_no_exact_form_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q2_K has no layout; a Q8_0 with a -128, here only far down, has none for its rows."""
    monkeypatch.setattr(plan, "_SLAB", 64 * 256)
    source = gguf_source(tmp_path, {"ffn_up": "Q2_K"}, "Q8_0")
    tensor = source.tensors["model.layers.0.mlp.gate_proj.weight"]
    assert isinstance(tensor, QuantizedTensor)
    made = convert(source, tmp_path / "p", quantization_of(8)).made
    assert made["model.layers.0.mlp.up_proj.weight"] == "requantized"
    assert made["model.layers.0.mlp.gate_proj.weight"] == "requantized"  # random bytes hold every value
    assert len(list(slabs(tensor.shape))) == 4
    clean = np.random.default_rng(0).standard_normal(tensor.shape).astype(np.float32)
    blocks = quantize("Q8_0", clean)
    blocks[-1, 2] = 0x80
    config = config_json() | GGUF_SIZES
    stored: dict[str, Any] = dict(gguf_tensors(hf_tensors(config), 64))
    stored["blk.0.ffn_gate.weight"] = ("Q8_0", tensor.shape, blocks)
    stored["blk.1.ffn_gate.weight"] = ("Q8_0", tensor.shape, quantize("Q8_0", clean))
    one = open_checkpoint(write_model_gguf(tmp_path / "one.gguf", config, stored))
    made = convert(one, tmp_path / "p1", quantization_of(8)).made
    assert made["model.layers.0.mlp.gate_proj.weight"] == "requantized"
    assert made["model.layers.1.mlp.gate_proj.weight"] == "exact"


def test_experts_and_routers_of_a_gguf(tmp_path: Path) -> None:
    """Experts lie in one tensor there; a router of blocks is stored as the floats it means."""
    config = mixtral_json() | GGUF_SIZES
    stored: dict[str, Any] = dict(gguf_tensors(hf_tensors(config), 64))
    for name, tensor in stored.items():
        if tensor.ndim == 3 or name.endswith("ffn_gate_inp.weight"):
            stored[name] = ("Q4_0", tensor.shape, quantize("Q4_0", tensor.reshape(-1, tensor.shape[-1])))
    source = open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, stored))
    made = convert(source, tmp_path / "p", quantization_of(4)).made
    packed = open_checkpoint(tmp_path / "p").tensors
    for name in packed:
        if ".experts." in name:
            assert made[name] == "exact"
        if is_router(name):
            assert isinstance(packed[name], np.ndarray)
            np.testing.assert_array_equal(packed[name], values(source.tensors[name]))


def test_rope_factors_of_a_gguf_are_kept(tmp_path: Path) -> None:
    config = source_config() | {"model_type": "llama"}
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    tensors = gguf_tensors(hf_tensors(config), 16) | {"rope_freqs.weight": factors}
    source = open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, tensors))
    convert(source, tmp_path / "p", quantization_of(8))
    assert open_checkpoint(tmp_path / "p").config == source.config


@needs_stories
@pytest.mark.parametrize("form", ["hf", "native", "stories260K.gguf"])
def test_the_tokenizer_comes_along(tmp_path: Path, form: str) -> None:
    source = open_checkpoint(STORIES / form)
    convert(source, tmp_path / "p", quantization_of(4))
    if source.gguf_metadata is None:
        before = load_tokenizer(source.folder)
    else:
        before = load_tokenizer(gguf_metadata=source.gguf_metadata)
    after = load_tokenizer(tmp_path / "p")
    text = "Once upon a time, there was a caf\u00e9 in 1998.\n\n  \u00bfQu\u00e9?"
    assert after.encode(text) == before.encode(text)
    assert after.decode(after.encode(text)) == before.decode(before.encode(text))
    for known in ("kind", "vocab_size", "bos_id", "eos_id", "adds_bos", "chat_template"):
        assert getattr(after, known) == getattr(before, known)


def test_a_packed_source_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "p", write_source(tmp_path / "s"))
    with pytest.raises(CheckpointError, match="packed at 4 bits already"):
        write_packed(tmp_path / "q", tmp_path / "p", bits=8)
    assert not (tmp_path / "q").exists()


def test_settings_that_are_none() -> None:
    for bits in (3, True, "four", 4.5, None):
        with pytest.raises(RequestError, match="bits must be 4 or 8"):
            quantization_of(bits)
    with pytest.raises(RequestError, match="codebook must be int4 or nf4, not 'fp4'"):
        quantization_of(4, "fp4")
    with pytest.raises(RequestError, match="8-bit weights have none"):
        quantization_of(8, "nf4")


def test_a_full_disk_is_seen_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ostro.models.convert import state

    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(state.shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(RequestError, match=r"still to be written, and the disk has 0\.00 GB free") as caught:
        write_packed(tmp_path / "p", write_source(tmp_path / "s"))
    assert caught.value.param == "out"
    assert not list((tmp_path / "p").glob("*.part"))


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "p" / "x"))

    monkeypatch.setattr(conversion.SafetensorsWriter, "write", fail)
    with pytest.raises(RequestError, match=r"p/x: No space left on device\. Give an output folder") as caught:
        write_packed(tmp_path / "p", write_source(tmp_path / "s"))
    assert caught.value.param == "out"


def test_a_weight_that_is_none_is_named(tmp_path: Path) -> None:
    config = source_config()
    tensors = hf_tensors(config)
    name = "model.layers.1.self_attn.k_proj.weight"
    tensors[name][3, 5] = np.nan
    with pytest.raises(CheckpointError, match=f"tensor {name}.*row 3, column 5 is nan"):
        write_packed(tmp_path / "p", write_hf(tmp_path / "s", config, tensors))


HOLDER = """
import sys
from pathlib import Path
from ostro.models.convert.state import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    """The second is told; one that may wait finds the work done."""
    source = write_source(tmp_path / "s")
    out = tmp_path / "p"
    out.mkdir()
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RequestError, match="Another process is writing"):
            write_packed(out, source)
        holder.stdin.write("\n")
        holder.stdin.close()
        convert(open_checkpoint(source), out, quantization_of(4), wait=True)
    assert open_checkpoint(out).form == "packed"


def test_slabs_cover_a_matrix_in_whole_panels() -> None:
    for shape in ((1, 1), (16, 64), (17, 1 << 22), (100_000, 4096), (5000, 12288)):
        found = list(slabs(shape))
        assert [piece.start for piece in found] == [0, *(piece.stop for piece in found[:-1])]
        assert found[-1].stop == shape[0]
        assert all(piece.start % 16 == 0 for piece in found)
        assert max(piece.stop - piece.start for piece in found) * shape[1] <= max(1 << 22, 16 * shape[1])


def test_bytes_are_those_of_the_layouts(tmp_path: Path) -> None:
    """The bits of a weight that are told are the bytes that lie in the files."""
    made = write_packed(tmp_path / "p", write_source(tmp_path / "s"))
    manifest = json.loads((tmp_path / "p" / "packed.json").read_text())
    packed = sum(PACKINGS[e["kind"]].nbytes(e["rows"], e["cols"]) for e in manifest["tensors"].values())
    norms = 4 * 48 * 5
    assert made.nbytes == manifest["bytes"] == packed + norms
    headers = sum(file["bytes"] for file in manifest["files"].values()) - made.nbytes
    assert 0 < headers < 20_000
    assert sum(path.stat().st_size for path in (tmp_path / "p").glob("*.safetensors")) == made.nbytes + headers
