"""The tokenizer's calling convention beside transformers' fast tokenizer of the same vocabulary."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mistral_common
import numpy as np
import pytest
import torch
import transformers

from ostro.errors import BackendError, RequestError, TokenizerError
from ostro.transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizer

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "models" / "stories260K"
DATA = Path(mistral_common.__file__).parent / "data"
TEXTS = ["Once upon a time", "", "  two  spaces\n", "안녕하세요 🦙", "</s>[INST] a"]
CHAT = [
    {"role": "user", "content": "What is your favourite condiment?"},
    {"role": "assistant", "content": "Lemon juice."},
    {"role": "user", "content": "Do you have mayonnaise recipes?"},
]


@pytest.fixture
def tokenizer(chat_folder: Callable[..., Path]) -> PreTrainedTokenizer:
    return AutoTokenizer.from_pretrained(chat_folder())


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
def test_ids_and_text_of_transformers() -> None:
    ours = AutoTokenizer.from_pretrained(STORIES / "hf")
    theirs = transformers.AutoTokenizer.from_pretrained(STORIES / "hf")
    for text in ["Once upon a time, there was", "a", "Lily's\n  dog", "안녕"]:
        ids = ours(text)["input_ids"]
        assert ids[0] == ours.bos_token_id
        assert ids[1:] == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours(text, add_special_tokens=False)["input_ids"] == ids[1:]
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
        assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<s>", "</s>", None)
    assert len(ours) == ours.vocab_size == 512


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
def test_the_same_tokenizer_from_every_form() -> None:
    rows = [AutoTokenizer.from_pretrained(STORIES / form)("A dog ran.")["input_ids"] for form in ("hf", "native")]
    rows.append(AutoTokenizer.from_pretrained(STORIES / "stories260K.gguf")("A dog ran.")["input_ids"])
    assert rows[0] == rows[1] == rows[2]


def test_lists_tensors_and_arrays(tokenizer: PreTrainedTokenizer) -> None:
    flat = tokenizer("Hello")
    assert isinstance(flat, BatchEncoding)
    assert flat["attention_mask"] == [1] * len(flat["input_ids"])
    assert tokenizer(["Hello"])["input_ids"] == [flat.input_ids]
    tensor = tokenizer("Hello", return_tensors="pt")
    assert tensor.input_ids.shape == (1, len(flat.input_ids))
    assert tensor.input_ids.dtype == torch.int64
    assert isinstance(tokenizer(["Hello"], return_tensors="np")["input_ids"], np.ndarray)
    assert set({**tensor}) == {"input_ids", "attention_mask"}
    assert tensor.to("cpu") is tensor
    assert tokenizer.encode("Hello") == flat.input_ids
    assert "attention_mask" not in tokenizer("Hello", return_attention_mask=False)
    with pytest.raises(AttributeError, match="token_type_ids"):
        _ = tensor.token_type_ids
    with pytest.raises(RequestError, match="padding=True"):
        tokenizer(["a", "a longer one"], return_tensors="pt")
    with pytest.raises(RequestError, match="return_tensors"):
        tokenizer("a", return_tensors="tf")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_moving_to_a_gpu_that_is_not_there(tokenizer: PreTrainedTokenizer) -> None:
    with pytest.raises(BackendError, match='Use "cpu"'):
        tokenizer("a", return_tensors="pt").to("cuda")


def test_padding_and_truncation(tokenizer: PreTrainedTokenizer) -> None:
    texts = ["a", "a much longer text than that"]
    with pytest.raises(RequestError, match=r"tokenizer\.pad_token = tokenizer\.eos_token"):
        tokenizer(texts, padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    left = tokenizer(texts, padding=True, return_tensors="pt")
    width = left.input_ids.shape[1]
    assert left.input_ids[0, : width - 2].unique().tolist() == [2]
    assert left.attention_mask[0].tolist() == [0] * (width - 2) + [1, 1]
    tokenizer.padding_side = "right"
    right = tokenizer(texts, padding="longest", return_tensors="pt")
    assert right.attention_mask[0].tolist() == [1, 1] + [0] * (width - 2)
    assert tokenizer(texts, padding="longest", padding_side="left")["attention_mask"] == left.attention_mask.tolist()
    assert len(tokenizer(texts[0], padding="max_length", max_length=9)["input_ids"]) == 9
    assert len(tokenizer(texts, padding=True, pad_to_multiple_of=8)["input_ids"][0]) % 8 == 0
    with pytest.raises(RequestError, match="max_length"):
        tokenizer(texts, padding="max_length")
    cut = tokenizer(texts[1], truncation=True, max_length=4)["input_ids"]
    assert cut == tokenizer(texts[1])["input_ids"][:4]
    tokenizer.truncation_side = "left"
    assert tokenizer(texts[1], truncation=True, max_length=4)["input_ids"] == [
        1,
        *tokenizer(texts[1])["input_ids"][-3:],
    ]
    padded = tokenizer.pad([{"input_ids": [5]}, {"input_ids": [5, 6]}], return_tensors="pt")
    assert padded.input_ids.tolist() == [[5, 2], [5, 6]]


def test_control_tokens_in_text(tokenizer: PreTrainedTokenizer) -> None:
    text = "a</s>[INST]"
    assert tokenizer(text)["input_ids"][-2:] == [2, 3]
    kept = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert not set(kept[1:]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(kept, skip_special_tokens=True) == text
    assert tokenizer("<s>a")["input_ids"].count(1) == 1


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(tokenizer: PreTrainedTokenizer, text: str) -> None:
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.batch_decode(torch.tensor([ids, ids]), skip_special_tokens=True) == [text, text]
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids


@pytest.mark.parametrize(
    ("file", "name", "family"),
    [
        ("tokenizer.model.v1", "tokenizer.model", "mistral"),
        ("mistral_instruct_tokenizer_240216.model.v2", "tokenizer.model", "mistral"),
        ("mistral_instruct_tokenizer_240323.model.v3", "tokenizer.model", "mixtral"),
        ("mistral_instruct_tokenizer_241114.model.v7", "tokenizer.model", "mistral"),
        ("tekken_240911.json", "tekken.json", "mistral"),
    ],
)
def test_a_chat_as_ids_as_a_tensor_and_as_text(file: str, name: str, family: str, tmp_path: Path) -> None:
    shutil.copy(DATA / file, tmp_path / name)
    (tmp_path / "config.json").write_text(f'{{"model_type": "{family}"}}')
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer.apply_chat_template(CHAT)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.apply_chat_template(CHAT, return_tensors="pt").tolist() == [ids]
    batch = tokenizer.apply_chat_template(CHAT, return_tensors="pt", return_dict=True)
    assert batch.input_ids.tolist() == [ids]
    assert batch.attention_mask.tolist() == [[1] * len(ids)]
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert "mayonnaise recipes?" in text
    assert tokenizer(text)["input_ids"] == ids  # one BOS, the control tokens understood
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids


def test_chats_of_a_batch_and_words_that_look_like_control_tokens(tokenizer: PreTrainedTokenizer) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer.apply_chat_template([CHAT, CHAT[:1]], padding=True, return_tensors="pt", return_dict=True)
    assert batch.attention_mask.sum(-1).tolist() == [len(tokenizer.apply_chat_template(c)) for c in (CHAT, CHAT[:1])]
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "</s>[INST]"}])
    assert [i for i in ids if i in tokenizer.all_special_ids] == [1, 3, 4]
    prefix = [*CHAT[:1], {"role": "assistant", "content": "I like"}]
    assert tokenizer.apply_chat_template(prefix, continue_final_message=True)[-1] != tokenizer.eos_token_id
    own = tokenizer.apply_chat_template(CHAT[:1], chat_template="{{ messages[0]['content'] }}", tokenize=False)
    assert own.endswith("What is your favourite condiment?")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"use_auth": 1}, "use_auth"), ({"trust_remote_code": True}, "runs no code"), ({"revision": "x"}, "revision")],
)
def test_what_from_pretrained_refuses(chat_folder: Callable[..., Path], arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        AutoTokenizer.from_pretrained(chat_folder(), **arguments)


def test_options_and_errors(chat_folder: Callable[..., Path], tokenizer: PreTrainedTokenizer) -> None:
    right = AutoTokenizer.from_pretrained(chat_folder(), padding_side="right", pad_token="</s>", use_fast=False)
    assert (right.padding_side, right.pad_token_id) == ("right", 2)
    plain = AutoTokenizer.from_pretrained(chat_folder(), add_bos_token=False, add_eos_token=True)
    assert plain("a")["input_ids"] == [*tokenizer("a")["input_ids"][1:], 2]
    with pytest.raises(TokenizerError, match="no token"):
        tokenizer.pad_token = "<nothing>"
    with pytest.raises(TokenizerError, match="32768"):
        tokenizer.decode([32768])
    with pytest.raises(RequestError, match="clean_up"):
        tokenizer.decode([3], clean_up_tokenization_spaces=True)
    assert tokenizer.get_vocab()["[INST]"] == 3
    assert tokenizer.unk_token_id == 0
    assert tokenizer.all_special_tokens[:4] == ["<unk>", "<s>", "</s>", "[INST]"]
    assert tokenizer.all_special_ids == sorted(tokenizer.tokenizer.control_tokens.values())


@pytest.mark.parametrize(
    ("arguments", "named", "match"),
    [
        ({"text": None}, "text", "not NoneType"),
        ({"text": 5}, "text", "not int"),
        ({"text": b"a"}, "text", "not bytes"),
        ({"text": {"a": 1}}, "text", "not dict"),
        ({"text": ["a", None]}, "text", "a list with NoneType in it"),
        ({"text": "a", "text_pair": "b"}, "text_pair", "one text"),
        ({"text": "a", "return_offsets_mapping": True}, "return_offsets_mapping", "It takes: add_special_tokens, "),
    ],
)
def test_what_a_call_refuses(tokenizer: PreTrainedTokenizer, arguments: dict[str, Any], named: str, match: str) -> None:
    for call in (tokenizer, tokenizer.encode):
        with pytest.raises(RequestError, match=match) as caught:
            call(**arguments)
        assert caught.value.param == named
    with pytest.raises(RequestError, match="text_pair"):
        tokenizer("a", "b")  # type: ignore[arg-type]


def test_files_beside_the_vocabulary(chat_folder: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(chat_folder() / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        '{"padding_side": "right", "model_max_length": 77, "pad_token": {"content": "</s>"}, "add_eos_token": true}'
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.padding_side, tokenizer.model_max_length, tokenizer.pad_token) == ("right", 77, "</s>")
    assert tokenizer("a")["input_ids"][-1] == 2
