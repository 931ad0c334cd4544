"""Whole runs in Python: what they refuse, what they leave behind, and what they say they will take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_chat import save_chat_model

from ostro.errors import CheckpointError, ConfigError, DataError, RequestError
from ostro.finetune import (
    Classifier,
    ClassifyConfig,
    PretrainConfig,
    TrainConfig,
    Watch,
    classify,
    pretrain,
    sft,
)
from ostro.finetune.distributed import Group
from ostro.finetune.model import new_model, tokenizer_of
from ostro.finetune.run import _check_processes, _check_samples
from ostro.transformers import AutoTokenizer

TEXTS = [("It works.", "good"), ("It broke.", "bad"), ("I am glad.", "good"), ("Never again.", "bad")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in TEXTS))
    words = {"words": ["Ada", "met", "Grace"], "labels": ["B-PER", "O", "B-PER"]}
    (tmp_path / "words.jsonl").write_text(json.dumps(words) + "\n")
    (tmp_path / "book.txt").write_text("Once upon a time there was a queen. " * 20)
    return tmp_path


def values(model: Path, data: str, **more: Any) -> dict[str, Any]:
    return {
        "model": str(model), "output_dir": "run", "data": {"train": data, "max_length": 32}, "steps": 2,
        "learning_rate": 1e-2, "dtype": "float32", **more,
    }  # fmt: skip


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_classifier_of_texts_is_used_from_its_folder(model: Path, method: str) -> None:
    config = values(model, "texts.jsonl", method=method, steps=30, micro_batch_size=4)
    result = classify(ClassifyConfig.from_dict(config))
    assert result.path is not None
    classifier = Classifier(result.path, device="cpu")
    texts = [text for text, _ in TEXTS] * 5
    found = classifier.texts(texts)
    assert [each.label for each in found[:4]] == [label for _, label in TEXTS]
    assert found[0].probability == max(found[0].probabilities.values()) > 0.5
    assert found[:4] == pytest.approx(found[4:8])
    assert classifier.texts([texts[3]])[0].probability == pytest.approx(found[3].probability, abs=1e-5)
    with pytest.raises(RequestError, match="trained on texts"):
        classifier.words([["a"]])
    with pytest.raises(DataError, match=r"texts\[0\]: the text is empty"):
        classifier.texts([""])


def test_transformers_reads_the_classifier(model: Path) -> None:
    result = classify(ClassifyConfig.from_dict(values(model, "texts.jsonl", method="full")))
    assert result.path is not None
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(result.path)
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    encoded = [AutoTokenizer.from_pretrained(result.path)(text)["input_ids"] for text, _ in TEXTS]
    width = max(map(len, encoded))
    rows = torch.tensor([[*ids, *[theirs.config.pad_token_id] * (width - len(ids))] for ids in encoded])
    with torch.no_grad():
        chances = theirs(rows).logits.softmax(-1)
    ours = Classifier(result.path, device="cpu").texts([text for text, _ in TEXTS])
    wanted = [[each.probabilities[name] for name in ("bad", "good")] for each in ours]
    assert torch.allclose(chances, torch.tensor(wanted), atol=1e-5)


def test_words_are_classified_and_other_tasks_refused(model: Path, folder: Path) -> None:
    result = classify(ClassifyConfig.from_dict(values(model, "words.jsonl", steps=20)))
    assert result.path is not None
    classifier = Classifier(result.path, device="cpu")
    rows = classifier.words([["Ada", "met", "Grace"], ["Ada"]])
    assert [each.label for each in rows[0]] == ["B-PER", "O", "B-PER"]
    assert len(rows[1]) == 1
    assert rows[1][0].probability == pytest.approx(rows[0][0].probability, abs=1e-5)
    with pytest.raises(RequestError, match="trained on words"):
        classifier.texts(["a"])
    files = {"train": "words.jsonl", "eval": "texts.jsonl"}
    mixed = values(model, "words.jsonl", output_dir="other") | {"data": files}
    with pytest.raises(DataError, match="labels of texts and labels of words"):
        classify(ClassifyConfig.from_dict(mixed))
    (folder / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no classifier"):
        Classifier(folder / "empty")
    with pytest.raises(CheckpointError, match="MistralForCausalLM, which is no classifier"):
        Classifier(model)


def test_labels_may_be_named_and_others_are_refused(model: Path) -> None:
    named = values(model, "texts.jsonl", classify={"labels": ["good", "bad", "so-so"]})
    result = classify(ClassifyConfig.from_dict(named))
    assert result.path is not None
    assert Classifier(result.path, device="cpu").labels.names == ("good", "bad", "so-so")
    fewer = {"classify": {"labels": ["good", "so-so"]}, "output_dir": "other"}
    with pytest.raises(DataError, match=r"texts.jsonl, line 2: the label 'bad'"):
        classify(ClassifyConfig.from_dict({**named, **fewer}))


def test_a_new_model_loads_everywhere(model: Path, folder: Path) -> None:
    shape = {
        "model_type": "mistral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
        "sliding_window": None, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape))
    base = {**values(model, "book.txt"), "tokenizer": str(model), "samples": {"prompts": ["Once"], "max_tokens": 3}}
    seen: list[Any] = []
    results = []
    for name, given in (("keys", shape), ("file", str(folder / "config.json"))):
        config = PretrainConfig.from_dict({**base, "model": given, "output_dir": name})
        results.append(pretrain(config, watch=Watch(on_evaluation=lambda *args: seen.append(args))))
    assert [result.path for result in results] == [Path("keys/model"), Path("file/model")]
    assert results[0].loss == results[1].loss
    assert [prompt for prompt, _ in seen[0][2]] == ["Once"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained("keys/model")
    assert theirs.config.vocab_size == 32768
    assert theirs.config.eos_token_id == 2
    from ostro import LLM, SamplingParams

    out = LLM("keys/model", backend="reference").generate(["Once"], SamplingParams(temperature=0, max_tokens=2))
    assert len(out[0].outputs[0].token_ids) == 2


def test_new_weights_may_begin_smaller_where_they_meet_the_residual_stream(model: Path) -> None:
    shape = {
        "model_type": "mixtral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
        "num_local_experts": 2, "num_experts_per_tok": 1,
    }  # fmt: skip
    given = {**values(model, "book.txt"), "model": shape, "tokenizer": str(model)}
    tokenizer = tokenizer_of(model)
    plain, scaled = (
        new_model(PretrainConfig.from_dict({**given, "scale_residual_init": each}), tokenizer, torch.device("cpu"))
        for each in (False, True)
    )
    others = dict(scaled.named_parameters())
    smaller = {name for name, p in plain.named_parameters() if not torch.equal(p, others[name])}
    assert smaller == {name for name in others if "o_proj" in name or ".w2." in name}
    assert all(torch.equal(p * 0.5, others[name]) for name, p in plain.named_parameters() if name in smaller)


def test_a_gguf_file_has_no_tokenizer_to_write(folder: Path) -> None:
    (folder / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"model.gguf is a GGUF file.*method: lora"):
        sft(TrainConfig.from_dict(values(folder / "model.gguf", "book.txt")))


def test_samples_need_one_process_and_a_language_model(model: Path) -> None:
    samples = {"prompts": ["Hello"]}
    config = TrainConfig.from_dict(values(model, "book.txt", samples=samples))
    with pytest.raises(ConfigError, match="of 2 processes"):
        _check_samples(config, Group(0, 2, torch.device("cpu")))
    with pytest.raises(ConfigError, match="a classifier writes no answers"):
        classify(ClassifyConfig.from_dict(values(model, "texts.jsonl", samples=samples)))


def test_muon_needs_one_process(model: Path) -> None:
    config = TrainConfig.from_dict(values(model, "book.txt", optimizer="muon"))
    with pytest.raises(ConfigError, match=r"of 2 processes.*optimizer: adamw"):
        _check_processes(config, Group(0, 2, torch.device("cpu")))


def test_what_would_end_a_run_late_ends_it_before_its_first_step(model: Path, folder: Path) -> None:
    (folder / "long.jsonl").write_text(json.dumps({"text": "never " * 100, "label": "bad"}) + "\n")
    held_out = values(model, "texts.jsonl") | {"data": {"train": "texts.jsonl", "eval": "long.jsonl", "max_length": 32}}
    with pytest.raises(DataError, match=r"long.jsonl, line 1"):
        classify(ClassifyConfig.from_dict(held_out))
    too_long = values(model, "book.txt", samples={"prompts": ["never " * 9000]})
    with pytest.raises(RequestError, match=r"samples: a prompt has 900\d tokens, more than the model's context"):
        sft(TrainConfig.from_dict(too_long))
    assert not (folder / "run").exists()


def test_a_folder_with_a_run_is_refused_before_a_weight_is_loaded(model: Path, folder: Path) -> None:
    sft(TrainConfig.from_dict(values(model, "book.txt", steps=1)))
    shutil.move(model / "model.safetensors", folder / "away")
    try:
        with pytest.raises(CheckpointError, match=r"run holds a run already .* \(--resume\)"):
            sft(TrainConfig.from_dict(values(model, "book.txt", steps=1)))
    finally:
        shutil.move(folder / "away", model / "model.safetensors")
    with pytest.raises(ConfigError, match=r"output_dir: book.txt is a file. Name a folder"):
        sft(TrainConfig.from_dict(values(model, "book.txt", output_dir="book.txt")))


def test_without_torch_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ostro.errors import MissingExtraError\n"
        "import ostro.finetune\n"
        "from ostro.finetune import TrainConfig\n"
        "for name in ('sft', 'look_at'):\n"
        "    try:\n        getattr(ostro.finetune, name)\n"
        "    except MissingExtraError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.count("pip install 'ostro[train]'") == 2, done.stderr
