"""Adapters on disk: what the config says of modules, what is refused by name, what is damaged."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tiny_adapters import write_random_adapter

from ostro.checkpoint.adapter import BASE_NAME, CONFIG_NAME, WEIGHTS_NAME, read_adapter, read_base, write_adapter
from ostro.checkpoint.fingerprint import weights_fingerprint
from ostro.checkpoint.lora_config import LoraConfig
from ostro.checkpoint.open import open_checkpoint
from ostro.checkpoint.safetensors import SafetensorsFile
from ostro.errors import CheckpointError, DamagedError, ModelNotFoundError, RequestError

Q0, Q10 = "model.layers.0.self_attn.q_proj", "model.layers.10.self_attn.q_proj"


@pytest.fixture
def base(tiny_checkpoint: Callable[[str], Path]) -> Path:
    return tiny_checkpoint("mistral-7b-v0.3")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return write_random_adapter(tmp_path / "adapter", base, ("q_proj", "gate_proj"), whole=("lm_head",))


def restate(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("targets", "module", "expected"),
    [
        (("q_proj",), Q0, True),
        (("proj",), Q0, False),  # the end of a name begins after a dot
        (("self_attn.q_proj",), Q0, True),
        ((Q0,), Q10, False),
        (r".*\.layers\.0\..*q_proj", Q0, True),
        (r".*\.layers\.0\..*q_proj", Q10, False),
        (r"q_proj", Q0, False),  # a pattern is of the whole name
    ],
)
def test_targets(targets: Any, module: str, expected: bool) -> None:
    assert LoraConfig(target_modules=targets).targets(module) is expected


def test_exceptions_to_targets() -> None:
    assert not LoraConfig(target_modules=("q_proj",), exclude_modules=(Q0,)).targets(Q0)
    assert not LoraConfig(target_modules=("q_proj",), modules_to_save=("q_proj",)).targets(Q0)
    first = LoraConfig(target_modules=("q_proj",), layers_to_transform=[0])
    assert (first.targets(Q0), first.targets(Q10)) == (True, False)


def test_rank_and_scaling_by_module() -> None:
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=("q_proj",),
        rank_pattern={"layers.0.*q_proj": 2},
        alpha_pattern={"v_proj": 1},
    )
    assert (config.rank(Q0), config.rank(Q10)) == (2, 8)
    assert (config.scaling(Q0), config.scaling(Q10), config.scaling("model.layers.0.self_attn.v_proj")) == (8, 2, 1 / 8)
    assert LoraConfig(r=16, lora_alpha=8, use_rslora=True).scaling(Q0) == 2


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"r": 0}, "r"), ({"r": True}, "r"), ({"lora_alpha": 0}, "lora_alpha"), ({"lora_alpha": 1e999}, "lora_alpha"),
        ({"lora_dropout": 1.0}, "lora_dropout"), ({"target_modules": ()}, "target_modules"),
        ({"target_modules": "("}, "target_modules"), ({"modules_to_save": "lm_head"}, "modules_to_save"),
        ({"rank_pattern": {"q": 0}}, "rank_pattern"), ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ],
)  # fmt: skip
def test_values_out_of_range(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError, match=rf"^{param}") as caught:
        LoraConfig(**change)
    assert caught.value.param == param


def test_what_is_written_is_read(base: Path, tmp_path: Path) -> None:
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        folder = write_random_adapter(
            tmp_path / np.dtype(dtype).name, base, ("q_proj",), r=2, use_rslora=True, dtype=dtype
        )
        found = read_adapter(folder)
        assert found.config == LoraConfig(
            r=2, lora_alpha=4, use_rslora=True, target_modules=("q_proj",), base_model_name_or_path=str(base)
        )
        assert len(found.pairs) == 3
        assert found.pairs[Q0].a.dtype == dtype
        assert found.pairs[Q0].scaling == pytest.approx(4 / 2**0.5)
        found.check(open_checkpoint(base).tensors.shapes, "the base")


def test_a_delta_is_b_times_a(adapter: Path) -> None:
    pair = read_adapter(adapter).pairs[Q0]
    assert np.allclose(pair.delta(), pair.b @ pair.a * (4 / 3))


def test_names_of_a_bare_decoder(base: Path, tmp_path: Path) -> None:
    written = read_adapter(write_random_adapter(tmp_path / "whole", base, ("q_proj",)))
    tensors = {
        f"{module.removeprefix('model.')}.lora_{side.upper()}.weight": getattr(pair, side)
        for module, pair in written.pairs.items()
        for side in ("a", "b")
    }
    write_adapter(tmp_path / "bare", written.config, tensors, None)
    found = read_adapter(tmp_path / "bare")
    assert found.pairs.keys() == written.pairs.keys()
    assert found.base is None


def test_the_digest_tells_adapters_apart(base: Path, tmp_path: Path) -> None:
    one, other = (write_random_adapter(tmp_path / str(seed), base, seed=seed) for seed in (1, 2))
    copy = shutil.copytree(one, tmp_path / "copy")
    assert read_adapter(one).digest() == read_adapter(copy).digest() != read_adapter(other).digest()
    restate(copy, lora_alpha=5)
    assert read_adapter(one).digest() != read_adapter(copy).digest()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "target_parameters"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"layers_pattern": "h"}, "layers_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"something_new": 3}, "something_new"),
        ({"r": "8"}, "r must be"),
        ({"target_modules": None, "r": -1}, "r must be"),
    ],
)
def test_variants_are_refused_by_name(adapter: Path, change: dict[str, Any], named: str) -> None:
    restate(adapter, **change)
    with pytest.raises(CheckpointError, match=named) as caught:
        read_adapter(adapter)
    assert str(adapter / CONFIG_NAME) in str(caught.value)


def test_unknown_keys_that_ask_for_nothing_pass(adapter: Path) -> None:
    restate(adapter, something_new=None, another=False, peft_version="9.9")
    assert read_adapter(adapter).pairs


def test_missing_files(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is no folder"):
        read_adapter(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=CONFIG_NAME):
        read_adapter(tmp_path)
    (adapter / WEIGHTS_NAME).rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        read_adapter(adapter)
    (adapter / "adapter_model.bin").unlink()
    with pytest.raises(DamagedError, match=WEIGHTS_NAME):
        read_adapter(adapter)


def test_a_rank_that_the_tensors_do_not_have(adapter: Path) -> None:
    restate(adapter, r=5)
    with pytest.raises(DamagedError, match="rank 5"):
        read_adapter(adapter)


def rewritten(adapter: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = SafetensorsFile(adapter / WEIGHTS_NAME)
    tensors = {name.removeprefix("base_model.model."): np.array(file.tensor(name)) for name in file.infos}
    change(tensors)
    write_adapter(adapter, read_adapter(adapter).config, tensors, read_base(adapter))


def test_tensors_that_are_no_lora(adapter: Path) -> None:
    rewritten(adapter, lambda tensors: tensors.update({f"{Q0}.lora_magnitude_vector.weight": np.ones(3, np.float32)}))
    with pytest.raises(CheckpointError, match="lora_magnitude_vector"):
        read_adapter(adapter)


def test_half_a_pair(adapter: Path) -> None:
    rewritten(adapter, lambda tensors: tensors.pop(f"{Q0}.lora_B.weight"))
    with pytest.raises(DamagedError, match=r"q_proj has no lora_B\.weight"):
        read_adapter(adapter)


def test_another_base(adapter: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    found = read_adapter(adapter)
    with pytest.raises(CheckpointError, match=re.escape(f"{Q0} of nemo is (64, 40), and the adapter is for (32, 32)")):
        found.check(open_checkpoint(tiny_checkpoint("nemo")).tensors.shapes, "nemo")
    with pytest.raises(CheckpointError, match="gate_proj, which mixtral does not have"):
        found.check(open_checkpoint(tiny_checkpoint("mixtral")).tensors.shapes, "mixtral")


def test_the_fingerprint_is_of_the_numbers_alone(base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    own = weights_fingerprint(open_checkpoint(base))
    copy = shutil.copytree(base, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors")
    tensors["lm_head.weight"] += 1  # heads are left out
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_fingerprint(open_checkpoint(copy)) == own
    tensors["model.layers.2.mlp.down_proj.weight"] += torch.tensor(1e-3)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_fingerprint(open_checkpoint(copy)) != own


def test_a_damaged_record_of_the_base(adapter: Path) -> None:
    (adapter / BASE_NAME).write_text('{"base_fingerprint": 3}')
    with pytest.raises(DamagedError, match=BASE_NAME):
        read_adapter(adapter)
