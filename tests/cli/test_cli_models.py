"""`ostro list`, `ostro pull` and `ostro info`, with a hub on the loopback device."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, serve

from ostro.checkpoint.aliases import aliases
from ostro.cli.info import _stored_as, describe
from ostro.cli.model_files import BUNDLED, ModelFiles, bundled_version, look_at
from ostro.config import from_hf

Run = Callable[..., Any]
STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"
needs_stories = pytest.mark.skipif(
    not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout"
)

MISTRAL_7B: dict[str, Any] = {
    "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip
MIXTRAL = {
    **MISTRAL_7B, "model_type": "mixtral", "rope_theta": 1e6, "sliding_window": None, "num_local_experts": 8,
    "num_experts_per_tok": 2,
}  # fmt: skip
NEMO = {
    **MISTRAL_7B, "vocab_size": 131072, "hidden_size": 5120, "num_hidden_layers": 40, "head_dim": 128,
    "max_position_embeddings": 131072, "rope_theta": 1e6, "sliding_window": None,
}  # fmt: skip
V03 = {**MISTRAL_7B, "vocab_size": 32768, "rope_theta": 1e6, "sliding_window": None}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    files = {
        "config.json": json.dumps(NEMO).encode(), "tekken.json": b"{}", "model.safetensors": b"\0" * 1000,
        "README.md": b"read me",
    }  # fmt: skip
    with serve(FakeHub({"mistralai/Mistral-Nemo-Instruct-2407": files, "o/empty": {"README.md": b""}})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield served


def numbers(config: dict[str, Any]) -> dict[str, Any]:
    """What `ostro info` finds in a config."""
    return describe(ModelFiles("m", None, "hub", from_hf(config, source="config.json"), (), None))


def test_list(run: Run, hub: FakeHub) -> None:
    text = run("list").out
    for alias in aliases():
        line = next(line for line in text.splitlines() if line.startswith(alias.name + " "))
        assert alias.repo in line
        assert alias.parameters in line
        assert alias.licence in line
    assert "No model is on this machine yet" in text
    assert hub.fetched == []


def test_pull_then_list(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    result = run("pull", "nemo")
    assert result.code == 0
    assert "mistralai/Mistral-Nemo-Instruct-2407" in result.out
    assert Path(result.out.splitlines()[-1]).is_relative_to(tmp_path)
    assert not any(name.endswith("README.md") for name in hub.fetched)
    report = run("pull", "nemo", "--json").json
    assert sorted(report["files"]) == ["config.json", "model.safetensors", "tekken.json"]
    assert report["bytes"] == 1000 + 2 + len(json.dumps(NEMO))
    assert run("pull", "nemo", "--quiet").out == report["path"] + "\n"
    assert run("pull", "nemo", "--offline", "--quiet").out == report["path"] + "\n"
    listed = run("list", "--json").json
    assert [(m["repo"], m["path"]) for m in listed["local"]] == [
        ("mistralai/Mistral-Nemo-Instruct-2407", report["path"])
    ]
    assert [m["name"] for m in listed["models"] if m["local"]] == ["nemo"]
    assert "ON THIS MACHINE" in run("list").out


def test_pull_of_what_is_not_there(run: Run, hub: FakeHub) -> None:
    for name, words in [
        ("o/nothing", "no such repository"),
        ("o/empty", "safetensors"),
        ("nemmo", "Did you mean nemo"),
    ]:
        result = run("pull", name)
        assert (result.code, result.out) == (1, "")
        assert words in result.err
        assert result.err.count("\n") == 1


def test_info_fetches_the_config_alone(run: Run, hub: FakeHub) -> None:
    found = run("info", "nemo", "--json").json
    assert found["path"] is None
    assert found["published_as"] == "Mistral NeMo"
    assert found["num_parameters"]["total"] == 12_247_782_400
    assert found["tokenizer"]["version"] == "v3-tekken"
    assert found["tokenizer"]["chat_format"] == "mistral-v3"
    assert {Path(name).name for name in hub.fetched} <= {"config.json"}
    hub.status = 503
    again = run("info", "nemo", "--json")
    assert again.code == 0, again.err
    assert again.json == found  # what is here need not be fetched again
    hub.status = 0
    assert run("info", "o/empty").code == 1


@pytest.mark.parametrize(
    ("trouble", "options", "words"),
    [("down", (), "503"), ("gated", (), "access to this model is restricted"), ("none", ("--offline",), "ostro pull")],
)
def test_info_of_a_short_name_without_the_hub(
    run: Run, hub: FakeHub, trouble: str, options: tuple[str, ...], words: str
) -> None:
    """The tour's first question needs neither a network nor a login; the answer says whose numbers it gives."""
    if trouble == "down":
        hub.status = 503
    hub.gated = set(hub.repos) if trouble == "gated" else set()
    found = run("info", "nemo", "--json", *options).json
    assert (found["form"], found["path"], found["published_as"]) == ("published", None, "Mistral NeMo")
    assert found["num_parameters"]["total"] == 12_247_782_400
    assert found["tokenizer"]["version"] == "v3-tekken"
    assert (found["config"]["bos_token_id"], found["config"]["eos_token_ids"]) == (None, [])  # the tokenizer's affair
    text = run("info", "nemo", *options).out
    for said in ("12.25 billion", "from ostro's own table of published models", words):
        assert said in text
    assert hub.fetched == []


def test_the_published_numbers_are_those_of_the_hub(run: Run, hub: FakeHub) -> None:
    """All but the ids that begin and end text, and what a config.json need not state."""
    fetched = run("info", "nemo", "--json").json
    assert (fetched["form"], fetched["note"]) == ("hub", None)
    hub.status = 503
    known = describe(look_at("mistral-nemo-base"))
    assert known["form"] == "published"
    ids = {"bos_token_id", "eos_token_ids"}
    assert {k: v for k, v in json.loads(json.dumps(known["config"])).items() if k not in ids} == {
        k: v for k, v in fetched["config"].items() if k not in ids
    }


def test_info_of_other_models_needs_the_hub(run: Run, hub: FakeHub) -> None:
    hub.status = 503
    result = run("info", "o/empty")
    assert (result.code, result.out) == (1, "")
    assert "503" in result.err
    assert "503" in run("info", "nemo", "--revision", "v2").err  # nobody here knows the numbers of a revision
    assert "ostro pull" in run("info", "o/empty", "--offline").err


@pytest.mark.parametrize(
    ("config", "name", "total", "active", "sizes"),
    [  # sizes in GB: at 16 bits as the models' cards give them, at 8 and 4 as our layouts come to
        (MISTRAL_7B, "Mistral 7B v0.1", 7_241_732_096, 7_241_732_096, (14.5, 7.7, 4.0)),
        (V03, "Mistral 7B v0.3", 7_248_023_552, 7_248_023_552, (14.5, 7.7, 4.0)),
        (MIXTRAL, "Mixtral 8x7B", 46_702_792_704, 12_879_925_248, (93.4, 49.6, 25.2)),
        (NEMO, "Mistral NeMo", 12_247_782_400, 12_247_782_400, (24.5, 13.0, 7.0)),
    ],
)
def test_numbers_of_published_models(
    config: dict[str, Any], name: str, total: int, active: int, sizes: tuple[float, ...]
) -> None:
    found = numbers(config)
    assert found["published_as"] == name
    assert found["num_parameters"] == {"total": total, "active": active}
    assert tuple(round(size / 1e9, 1) for size in found["weight_bytes"].values()) == sizes
    assert list(found["weight_bytes"]) == ["16", "8", "4"]


def test_kv_cache_of_a_window_is_bounded() -> None:
    assert numbers(MISTRAL_7B)["kv_cache"] == {
        "bytes_per_token": 128 * 1024, "max_tokens_kept": 4096, "max_bytes": 512 * 2**20,
    }  # fmt: skip
    assert numbers(V03)["kv_cache"]["max_bytes"] == 32768 * 128 * 1024
    assert numbers(NEMO)["kv_cache"]["bytes_per_token"] == 160 * 1024


@needs_stories
@pytest.mark.parametrize("form", ["hf", "native", "stories260K.gguf"])
def test_info_of_the_stories(run: Run, form: str) -> None:
    found = run("info", STORIES / form, "--json").json
    assert found["config"]["num_hidden_layers"] == 5
    assert found["config"]["head_dim"] == 8
    assert found["num_parameters"]["total"] == (260_032 if form == "hf" else 260_032 + 512 * 64)
    assert found["tokenizer"]["vocab_size"] == 512
    assert found["tokenizer"]["chat_format"] is None
    assert found["kv_cache"]["bytes_per_token"] == 2 * 5 * 4 * 8 * 2
    assert found["files"]
    text = run("info", STORIES / form).out
    for words in ("5 of width 64", "512 tokens", "640 bytes a token", "base model"):
        assert words in text


def test_info_of_a_config_without_weights(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL))
    result = run("info", tmp_path)
    assert result.code == 0
    assert "46.70 billion, of which 12.88 billion are active for a token" in result.out
    assert "8 experts, 2 for a token" in result.out
    assert "no vocabulary" in result.out


def copied(model: Path, folder: Path) -> Path:
    """A folder like `model` that may be damaged."""
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def changed(file: Path, **keys: Any) -> None:
    """A JSON object with some keys changed."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "has only 0 bytes"),
    "a header alone": (lambda f: os.truncate(f / "model.safetensors", 3000), "is cut"),
    "cut weights": (lambda f: os.truncate(f / "model.safetensors", 1_000_000), "is cut"),
    "another width": (lambda f: changed(f / "config.json", hidden_size=32), "not of one model"),
    "another tokenizer": (lambda f: changed(f / "config.json", vocab_size=32000), "the tokenizer is of another model"),
    "pickles": (only_a_pickle, "only as pickles"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.model").write_bytes(b"nothing"), "tokenizer.model"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_info_names_what_is_wrong_with_the_files(run: Run, chat_model: Path, tmp_path: Path, damage: str) -> None:
    act, words = DAMAGES[damage]
    act(copied(chat_model, tmp_path))
    result = run("info", tmp_path)
    assert result.code == 1
    assert "2 of width" in result.out  # what is known is shown all the same
    assert words in result.err
    assert result.err.startswith("error: ")
    again = run("info", tmp_path, "--json")
    assert again.code == 1
    assert any(words in problem for problem in again.json["problems"])


def test_info_without_a_config_is_an_error(run: Run, chat_model: Path, tmp_path: Path) -> None:
    (copied(chat_model, tmp_path) / "config.json").unlink()
    result = run("info", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert "has weights but no config.json" in result.err


@needs_stories
def test_types_of_the_weights_are_those_of_the_files(run: Run, tmp_path: Path) -> None:
    for form in ("hf", "native", "stories260K.gguf"):
        assert "stored as           F32\n" in run("info", STORIES / form).out.replace("weights at 16 bits ", "")
    (tmp_path / "config.json").write_bytes((STORIES / "hf" / "config.json").read_bytes())
    assert "float32; the weights are not here" in run("info", tmp_path).out
    config = from_hf(NEMO, source="config.json")
    mixed = ModelFiles("m", tmp_path, "gguf", config, (), None, num_stored={"Q4_K": 900, "Q6_K": 90, "F32": 10})
    assert _stored_as(mixed) == "Q4_K 90 %, Q6_K 9 %, F32 1 %"


def test_a_path_is_shown_once(run: Run, chat_model: Path) -> None:
    text = run("info", chat_model).out
    assert text.count(str(chat_model)) == 1
    assert text.splitlines()[0].split() == ["model", "tiny-chat"]


def test_paths_that_lead_nowhere(run: Run, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(chat_model)
    for args in (
        ["info", "./nope"],
        ["tokenize", "-m", "./nope", "hi"],
        ["tokenize", "--compare", "../nope", "--text", "a"],
    ):
        result = run(*args)
        assert (result.code, result.out) == (1, "")
        assert "nope: no such folder or file" in result.err
    assert "'a--b/c' is no valid name of a hub repository" in run("info", "a--b/c").err
    assert f"give the folder, {str(chat_model)!r}, which" in run("info", "model.safetensors").err


def test_info_refuses_what_cannot_be_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**V03, "model_type": "gemma"}))
    result = run("info", tmp_path)
    assert result.code == 1
    assert "gemma" in result.err
    assert run("info", tmp_path / "config.json").code == 1
    assert run("info", tmp_path, "--revision", "main").code == 1


def test_every_mistral_alias_has_a_bundled_tokenizer() -> None:
    for alias in aliases():
        version = bundled_version(alias.name)
        assert (version in BUNDLED) is alias.repo.startswith("mistralai/"), alias.name
        assert all(bundled_version(synonym) == version for synonym in (*alias.synonyms, alias.repo))


def test_the_tokenizer_of_a_repository_of_which_two_gguf_files_are_here(
    run: Run, hub: FakeHub, chat_model: Path
) -> None:
    """Its own files are read, and not those of a GGUF file that happens to be in the cache."""
    names = ("config.json", "tokenizer.model", "model.safetensors")
    files = {name: (chat_model / name).read_bytes() for name in names}
    hub.repos["o/both"] = files | {"x-Q4_0.gguf": b"GGUF", "x-Q8_0.gguf": b"GGUF"}
    for part in ("Q4_0", "Q8_0"):
        assert run("pull", f"o/both:{part}").code == 0
    result = run("tokenize", "-m", "o/both", "Hello", "--json")
    assert result.code == 0, result.err
    assert result.json["kind"] == "spm"
    assert "model.safetensors" not in hub.fetched
