"""`quantize_model`: the folder is verified, and the report's numbers are those of the two models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_forms import gguf_tensors, hf_tensors, write_model_gguf
from gguf_quantize import quantize as to_blocks
from packed_models import STORIES, add_vocabulary, source_config, write_source

from ostro import LLM
from ostro.checkpoint.open import num_weights, open_checkpoint, stored_bytes
from ostro.errors import CheckpointError, RequestError
from ostro.ops import get_ops
from ostro.ops.reference import route
from ostro.quantize import Report, Stage, quantize_model
from ostro.quantize.compare import compare, windows_of
from ostro.quantize.report import KINDS, facts_of, markdown
from ostro.quantize.text import BUILT_IN

needs_stories = pytest.mark.skipif(
    not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout"
)
TEXT = "The ferry left the island at six, when the harbour was still dark. for i in range(3): print(i)"


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts with a vocabulary of bytes."""
    return add_vocabulary(write_source(tmp_path_factory.mktemp("source") / "tiny-moe", "moe"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "ferry.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def made(moe: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("out") / "packed"
    return quantize_model(moe, folder, bits=4, text=text, backend="reference"), folder


def log_softmax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = scores.astype(np.float64)
    return (
        wide - np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1, keepdims=True)) - wide.max(-1, keepdims=True)
    )


def test_the_numbers_are_those_of_the_models(made: tuple[Report, Path], moe: Path) -> None:
    """Divergence, agreement and perplexity from the logits that `LLM` gives for the same text."""
    report, folder = made
    found = report.comparison
    assert found is not None
    source, packed = (LLM(path, backend="reference", kv_dtype="float32") for path in (moe, folder))
    windows = windows_of(source.tokenizer.encode(TEXT), source.tokenizer.bos_id, 64)
    pairs = [(log_softmax(source.logits(w.tolist())), log_softmax(packed.logits(w.tolist()))) for w in windows]
    kl = np.concatenate([(np.exp(p) * (p - q)).sum(-1) for p, q in pairs])
    agreed = np.concatenate([p.argmax(-1) == q.argmax(-1) for p, q in pairs])
    losses = [
        np.concatenate([-pair[m][np.arange(len(w) - 1), w[1:]] for pair, w in zip(pairs, windows, strict=True)])
        for m in (0, 1)
    ]
    assert found.num_tokens == len(kl) == sum(map(len, windows))
    assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-4)
    assert found.kl_p99 == pytest.approx(np.percentile(kl, 99), rel=1e-4)
    assert found.top1_agreement == pytest.approx(agreed.mean())
    assert found.perplexity_source == pytest.approx(np.exp(losses[0].mean()), rel=1e-4)
    assert found.perplexity_packed == pytest.approx(np.exp(losses[1].mean()), rel=1e-4)
    assert 0 < found.kl_mean < found.kl_p99


def test_the_head_is_that_of_the_engine(moe: Path) -> None:
    """The scores are those of `logits`, not of `linear`, which may round the activations more."""

    class Ops:
        def __init__(self) -> None:
            self.inner = get_ops("reference")
            self.rows = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def linear(self, x: Any, weight: Any) -> Any:
            assert weight.shape[0] != 300, "the head's rows"
            return self.inner.linear(x, weight)

        def logits(self, x: Any, head: Any) -> Any:
            self.rows += len(x)
            return self.inner.logits(x, head)

    source = open_checkpoint(moe)
    ops = Ops()
    compare(ops, source, source, windows_of(list(range(50)), None, 20), lambda _count, _name: None)  # type: ignore[arg-type]
    assert ops.rows == 2 * 50


def test_tokens_that_experts_saw(made: tuple[Report, Path], moe: Path) -> None:
    """Every token goes to two of three experts in each layer, and the first layer's choice can be computed here."""
    report, _ = made
    found = report.comparison
    assert found is not None
    assert [sum(layer) for layer in found.expert_tokens] == [2 * found.num_tokens] * 2
    assert report.unseen_experts == [
        f"layer {i} expert {e}" for i, layer in enumerate(found.expert_tokens) for e in range(3) if not layer[e]
    ]


def test_experts_are_counted_in_every_window() -> None:
    """A router that always prefers the same experts: the others saw nothing, and are named."""

    class Ops:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.rows: list[int] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def moe(self, x: Any, router: Any, experts: Any, used: int) -> Any:
            self.rows.append(len(x))
            return self.inner.moe(x, router, experts, used)

    from ostro.quantize.compare import _CountingOps

    ops = Ops(get_ops("reference"))
    counting = _CountingOps(ops)  # type: ignore[arg-type]
    router = np.zeros((4, 8), np.float32)
    router[1], router[3] = 1, 2
    experts = [(np.zeros((8, 8), np.float32),) * 3] * 4
    x = np.ones((5, 8), np.float32)
    for rows in (x, x[:2]):
        counting.moe(rows, router, experts, 2)
    other = router[::-1].copy()
    counting.moe(x, other, experts, 2)
    assert counting.counts == [[0, 7, 0, 7], [5, 0, 5, 0]]
    assert ops.rows == [5, 2, 5]
    assert route(x @ router.T, 2)[0].tolist() == [[3, 1]] * 5


def test_the_same_model_twice_does_not_diverge(moe: Path) -> None:
    source = open_checkpoint(moe)
    windows = windows_of(list(range(50)), None, 20)
    told: list[int] = []
    found = compare(get_ops("reference"), source, source, windows, lambda count, _name: told.append(count))
    assert found.kl_mean == found.kl_p99 == 0
    assert found.top1_agreement == 1
    assert found.perplexity_source == found.perplexity_packed
    assert sum(told) == 2 * 2 + 2


def test_sizes_by_kind(made: tuple[Report, Path]) -> None:
    report, folder = made
    packed = open_checkpoint(folder)
    kinds = {kind.kind: kind for kind in report.kinds}
    assert list(kinds) == ["embeddings", "attention", "experts", "routers", "norms", "head"]
    assert [kind for kind in KINDS if kind in kinds] == list(kinds)
    assert sum(kind.num_weights for kind in report.kinds) == report.num_weights == num_weights(packed)
    assert sum(kind.nbytes for kind in report.kinds) == report.nbytes == stored_bytes(packed)
    assert kinds["experts"].num_weights == 2 * 3 * 3 * 48 * 80
    assert kinds["experts"].made == {"quantized": 18}
    assert kinds["routers"].made == {"kept": 2}
    assert kinds["routers"].bits_per_weight == kinds["norms"].bits_per_weight == 32
    assert kinds["routers"].relative_error == kinds["norms"].relative_error == 0
    assert 0.02 < kinds["attention"].relative_error < 0.12
    assert 0 < kinds["head"].relative_error < 0.05


def test_the_report_is_stored(made: tuple[Report, Path]) -> None:
    report, folder = made
    assert json.loads((folder / "packed.json").read_text())["report"] == json.loads(json.dumps(report.to_dict()))
    assert (folder / "report.md").read_text() == markdown(report)
    assert f"{report.bits_per_weight:.2f} bits a weight" in markdown(report)
    assert "| LAYER | EXPERT 0 | EXPERT 1 | EXPERT 2 |" in markdown(report)
    assert dict(facts_of(report))["compared on"].startswith("ferry.txt, ")
    assert dict(facts_of(report))["source"].startswith("tiny-moe (hf, ")


def test_without_a_report(moe: Path, tmp_path: Path) -> None:
    steps: list[Stage] = []
    report = quantize_model(moe, tmp_path / "p", bits=8, report=False, progress=steps.append)
    assert report.comparison is None
    assert report.text is report.backend is None
    assert "compared: no" in markdown(report)
    assert {stage.step for stage in steps} == {"packing", "verifying"}
    assert all(0 < stage.done <= stage.total for stage in steps)
    for name in ("packing", "verifying"):
        last = [stage for stage in steps if stage.step == name][-1]
        assert last.done == last.total


@pytest.mark.parametrize("form", ["native", "gguf"])
@pytest.mark.parametrize("bits", [4, 8])
def test_other_forms(tmp_path: Path, form: str, bits: int) -> None:
    source = write_source(tmp_path / "s", "tied", form)
    report = quantize_model(source, tmp_path / "p", bits=bits, report=False)
    assert (report.source_form, report.bits) == (form, bits)
    assert "head" not in {kind.kind for kind in report.kinds}


def test_exact_tensors_are_told_from_others(tmp_path: Path) -> None:
    config = source_config() | {"hidden_size": 64, "intermediate_size": 64}
    stored: dict[str, Any] = dict(gguf_tensors(hf_tensors(config), 16))
    for name, tensor in stored.items():
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            kind = "Q8_0" if "ffn_down" in name else "Q4_0"
            stored[name] = (kind, tensor.shape, to_blocks(kind, tensor))
    source = write_model_gguf(tmp_path / "m.gguf", config, stored)
    report = quantize_model(source, tmp_path / "p", bits=4, report=False)
    kinds = {kind.kind: kind for kind in report.kinds}
    assert report.requantized == tuple(f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1))
    assert kinds["mlp"].made == {"exact": 4, "requantized": 2}
    assert kinds["embeddings"].made == {"exact": 1}
    assert kinds["embeddings"].relative_error == 0
    assert all(f"- {name}" in markdown(report) for name in report.requantized)


def test_a_second_call_finds_the_work_done(moe: Path, text: Path, tmp_path: Path) -> None:
    first = quantize_model(moe, tmp_path / "p", bits=4, text=text, max_tokens=20, backend="reference")
    steps: list[Stage] = []
    again = quantize_model(
        moe, tmp_path / "p", bits=4, text=text, max_tokens=20, backend="reference", progress=steps.append
    )
    assert again == first
    assert "packing" not in {stage.step for stage in steps}


def test_weights_that_were_changed_are_found(moe: Path, tmp_path: Path) -> None:
    """By the checksum of the file; and where that was made to fit, by the weights themselves."""
    from ostro.models.convert.state import checksum

    out = tmp_path / "p"
    quantize_model(moe, out, bits=4, report=False)
    name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    shard = out / index[f"{name}.scales"]
    raw = bytearray(shard.read_bytes())
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    begin = 8 + int.from_bytes(raw[:8], "little") + header[f"{name}.scales"]["data_offsets"][0]
    raw[begin + 1] ^= 0x0C  # an exponent of a float16
    shard.write_bytes(raw)
    with pytest.raises(CheckpointError, match=f"{re.escape(shard.name)} is not as it was written"):
        quantize_model(moe, out, bits=4, report=False)
    manifest = json.loads((out / "packed.json").read_text())
    manifest["files"][shard.name]["blake2b"] = checksum(shard)
    (out / "packed.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=rf"tensor {re.escape(name)}, rows 0 to 80: \d+ of its weights"):
        quantize_model(moe, out, bits=4, report=False)
    quantize_model(moe, out, bits=4, report=False, overwrite=True)


def test_arguments_that_contradict(moe: Path, tmp_path: Path, text: Path) -> None:
    def wrong(match: str, **arguments: Any) -> None:
        with pytest.raises(RequestError, match=match):
            quantize_model(moe, tmp_path / "p", **{"bits": 4, **arguments})
        assert not (tmp_path / "p").exists()

    wrong("bits must be", bits=5)
    wrong("codebook must be", codebook="nf5")
    wrong("text is given, but nothing is compared", report=False, text=text)
    wrong("max_tokens is given, but nothing is compared", report=False, max_tokens=5)
    wrong("max_tokens must be", max_tokens=1)
    wrong("max_tokens must be", max_tokens=True)
    wrong("cannot be read as UTF-8", text=tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("")
    wrong("0 tokens are too few", text=tmp_path / "empty.txt")


def test_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s")
    with pytest.raises(RequestError, match=r"has no tokenizer.*report=False"):
        quantize_model(source, tmp_path / "p", bits=4)
    assert not (tmp_path / "p").exists()


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    from checkpoint_forms import write_hf

    config = source_config() | {"vocab_size": 100}
    source = add_vocabulary(write_hf(tmp_path / "s", config, hf_tensors(config)))
    with pytest.raises(CheckpointError, match="the tokenizer is of another model"):
        quantize_model(source, tmp_path / "p", bits=4)


def test_the_built_in_text_is_long_enough() -> None:
    assert len(BUILT_IN.split()) > 700
    assert BUILT_IN.isascii()


@needs_stories
@pytest.mark.parametrize(("bits", "codebook", "most"), [(8, None, 0.01), (4, "int4", 0.3), (4, "nf4", 0.3)])
def test_a_trained_model(tmp_path: Path, bits: int, codebook: str | None, most: float) -> None:
    report = quantize_model(STORIES / "hf", tmp_path / "p", bits=bits, codebook=codebook, max_tokens=300)
    found = report.comparison
    assert found is not None
    assert found.num_tokens == 301
    assert 0 < found.kl_mean < most
    assert found.top1_agreement > (0.9 if bits == 8 else 0.6)
    assert found.perplexity_packed == pytest.approx(found.perplexity_source, rel=0.02 if bits == 8 else 0.3)
    assert report.bits_per_weight < bits + 2  # rows of 64 columns fill a quarter of a superblock
