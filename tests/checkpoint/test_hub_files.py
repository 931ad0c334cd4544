"""Which files are fetched, on listings as the repositories of the hub have them."""

from __future__ import annotations

import ast
import fnmatch
from pathlib import Path

import pytest

import ostro.tokenizer
from ostro.checkpoint.hub_files import CONFIG_FILES, TOKENIZER_FILES, missing_parts, select_files
from ostro.errors import ModelNotFoundError


def shards(stem: str, count: int, suffix: str = ".safetensors") -> list[str]:
    return [f"{stem}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]


COMMON = ["config.json", "generation_config.json"]
HF_TOKENIZER = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]

MISTRAL_7B = [
    ".gitattributes", "README.md", *COMMON, "consolidated.safetensors", *shards("model", 3),
    "model.safetensors.index.json", "params.json", *HF_TOKENIZER, "tokenizer.model", "tokenizer.model.v3",
]  # fmt: skip
MIXTRAL = [
    ".gitattributes", "README.md", *COMMON, *(f"consolidated.{i:02}.pt" for i in range(8)), *shards("model", 19),
    "model.safetensors.index.json", *HF_TOKENIZER, "tokenizer.model",
]  # fmt: skip
LARGE = [
    ".gitattributes", "LICENSE.md", "README.md", *COMMON, *shards("consolidated", 51),
    "consolidated.safetensors.index.json", *shards("model", 51), "model.safetensors.index.json", "params.json",
    *HF_TOKENIZER, "tokenizer.model", "tokenizer.model.v3",
]  # fmt: skip
LLAMA = [
    ".gitattributes", "LICENSE", "README.md", "USE_POLICY.md", *COMMON, *shards("model", 4),
    "model.safetensors.index.json", "original/consolidated.00.pth", "original/params.json",
    "original/tokenizer.model", *HF_TOKENIZER,
]  # fmt: skip
NEMO_NATIVE = ["README.md", "consolidated.safetensors", "params.json", "tekken.json"]
QUANTS = [
    "IQ4_XS",
    "Q2_K",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "Q4_0",
    "Q4_K_L",
    "Q4_K_M",
    "Q4_K_S",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
]
GGUF = [
    ".gitattributes", "README.md", "Llama-3.2-3B-Instruct.imatrix", "mmproj-model-f16.gguf",
    *(f"Llama-3.2-3B-Instruct-{quant}.gguf" for quant in QUANTS),
    *shards("Llama-3.2-3B-Instruct-f32/Llama-3.2-3B-Instruct-f32", 2, ".gguf"),
]  # fmt: skip


def test_mistral_7b_is_fetched_once_in_the_hf_form() -> None:
    assert set(MISTRAL_7B) - set(select_files(MISTRAL_7B)) == {
        ".gitattributes",
        "README.md",
        "consolidated.safetensors",
    }


def test_mixtral_without_pickles() -> None:
    files = select_files(MIXTRAL)
    assert not [name for name in files if name.endswith(".pt")]
    assert set(shards("model", 19)) < set(files)
    assert set(files) - set(shards("model", 19)) == {
        *COMMON, *HF_TOKENIZER, "tokenizer.model", "model.safetensors.index.json"
    }  # fmt: skip


def test_large_is_fetched_once() -> None:
    files = select_files(LARGE)
    assert not [name for name in files if name.startswith("consolidated")]
    assert len([name for name in files if name.startswith("model-")]) == 51
    assert {"params.json", "tokenizer.model.v3"} < set(files)


def test_llama_without_its_original_folder() -> None:
    files = select_files(LLAMA)
    assert not [name for name in files if "/" in name]
    assert set(files) == {*COMMON, *HF_TOKENIZER, *shards("model", 4), "model.safetensors.index.json"}


def test_native_form_where_it_is_all_there_is() -> None:
    assert select_files(NEMO_NATIVE) == NEMO_NATIVE[1:]
    native = [name for name in LARGE if not name.startswith("model")]
    assert {*shards("consolidated", 51), "consolidated.safetensors.index.json"} < set(select_files(native))


def test_one_safetensors_file_and_other_files_beside_it() -> None:
    names = [
        "config.json", "model.safetensors", "adapter_model.safetensors", "model.fp16.safetensors", "pytorch_model.bin",
        "tekken.json", "chat_template.jinja", "training_args.bin", "onnx/model.onnx", "tokenizer.json.bak",
    ]  # fmt: skip
    assert select_files(names) == ["config.json", "model.safetensors", "tekken.json", "chat_template.jinja"]


@pytest.mark.parametrize(
    "part", ["Q4_K_M", "q4_k_m", "Llama-3.2-3B-Instruct-Q4_K_M", "llama-3.2-3b-instruct-q4_k_m.GGUF"]
)
def test_a_gguf_file_by_a_part_of_its_name(part: str) -> None:
    assert select_files(GGUF, part) == ["Llama-3.2-3B-Instruct-Q4_K_M.gguf"]


def test_a_split_gguf_with_all_its_parts() -> None:
    assert select_files(GGUF, "f32") == shards("Llama-3.2-3B-Instruct-f32/Llama-3.2-3B-Instruct-f32", 2, ".gguf")


@pytest.mark.parametrize(
    ("part", "candidates"),
    [
        ("Q4_K", ["Q4_K_L", "Q4_K_M", "Q4_K_S"]),
        ("Q4", ["Q4_0", "Q4_K_L", "Q4_K_M", "Q4_K_S"]),
        (None, QUANTS),
    ],
)
def test_an_unclear_choice_is_refused_with_the_candidates(part: str | None, candidates: list[str]) -> None:
    with pytest.raises(ModelNotFoundError, match="choose one with OWNER/NAME:PART") as caught:
        select_files(GGUF, part)
    text = str(caught.value)
    assert [quant for quant in QUANTS if f"-{quant}," in text or f"-{quant}." in text] == candidates
    assert "mmproj" not in text


def test_a_choice_that_names_nothing() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'Q9' names none of its GGUF models.*Q4_K_M"):
        select_files(GGUF, "Q9")
    with pytest.raises(ModelNotFoundError, match="no GGUF file in this repository"):
        select_files(MISTRAL_7B, "Q4_K_M")


def test_one_gguf_needs_no_choice() -> None:
    assert select_files(["README.md", "stories.gguf", "mmproj-f16.gguf"]) == ["stories.gguf"]
    assert select_files(["README.md", *shards("big", 3, ".gguf")]) == shards("big", 3, ".gguf")


def test_safetensors_go_before_gguf_unless_one_is_asked_for() -> None:
    names = ["config.json", "model.safetensors", "tokenizer.json", "x-Q8_0.gguf"]
    assert select_files(names) == names[:3]
    assert select_files(names, "Q8_0") == names[3:]


@pytest.mark.parametrize("names", [["config.json", "pytorch_model.bin"], ["original/consolidated.00.pth", "README.md"]])
def test_pickles_alone_are_refused(names: list[str]) -> None:
    with pytest.raises(ModelNotFoundError, match="pickles only"):
        select_files(names)


def test_nothing_to_read() -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model\*\.safetensors"):
        select_files(["README.md", "config.json"])


def test_missing_parts() -> None:
    assert missing_parts(shards("model", 3)) == []
    assert missing_parts(["config.json", *shards("model", 4)[1:3]]) == [shards("model", 4)[0], shards("model", 4)[3]]
    assert missing_parts(shards("d/x", 2, ".gguf")[:1]) == shards("d/x", 2, ".gguf")[1:]


def names_that_the_tokenizer_loader_reads() -> set[str]:
    """Every file name that the code of ostro.tokenizer joins to a path, as in `folder / "tekken.json"`."""
    found: set[str] = set()
    for path in Path(ostro.tokenizer.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
                found.add(str(node.right.value))
    return {name for name in found if "." in name}  # the others are folders


def test_every_file_that_the_tokenizer_loader_reads_is_fetched() -> None:
    names = names_that_the_tokenizer_loader_reads()
    assert {"added_tokens.json", "chat_template.json", "tekken.json", "tokenizer.model", "tokenizer.json"} < names
    names |= {"tokenizer.model.v3", "tokenizer.model.v11m1", "mistral_instruct_tokenizer_240323.model.v3"}
    for name in names:
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in TOKENIZER_FILES), name
    assert set(select_files([*sorted(names), "model.safetensors"])) == names | {"model.safetensors"}


def test_configuration_and_tokenizer_are_two_lists() -> None:
    assert not set(CONFIG_FILES) & set(TOKENIZER_FILES)


E5 = [
    ".gitattributes", "1_Pooling/config.json", "README.md", "config.json", "model.safetensors", "modules.json",
    "onnx/config.json", "onnx/model.onnx", "onnx/model_O4.onnx", "openvino/openvino_model.bin", "pytorch_model.bin",
    "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
]  # fmt: skip
STATIC = [
    "README.md", "modules.json", "config_sentence_transformers.json", "0_StaticEmbedding/model.safetensors",
    "0_StaticEmbedding/tokenizer.json", "2_Dense/config.json", "2_Dense/model.safetensors",
]  # fmt: skip


def test_embedding_models_with_their_modules() -> None:
    assert select_files(E5) == [
        "1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert select_files(STATIC) == STATIC[1:]


def test_folders_of_modules_are_not_taken_without_a_modules_json() -> None:
    assert "1_Pooling/config.json" not in select_files([name for name in E5 if name != "modules.json"])
    with pytest.raises(ModelNotFoundError, match="no model"):
        select_files([name for name in STATIC if name != "modules.json"])
