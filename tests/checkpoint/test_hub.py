"""Names to folders: local ones, and downloads by `huggingface_hub` from a hub on the loopback device."""

from __future__ import annotations

import json
import logging
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import COMMIT, FakeHub, serve

from ostro.checkpoint.hub import list_local, pull, resolve
from ostro.errors import CheckpointError, ModelNotFoundError, RequestError

WEIGHTS = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 50_000 for i in (1, 2)}
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
TINY = {
    "README.md": b"read me",
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "model.safetensors.index.json": INDEX.encode(),
    **WEIGHTS,
    "consolidated.safetensors": bytes(9),
    "pytorch_model.bin": bytes(8),
    "original/params.json": b"{  }",
}
NEEDED = {"config.json", "tokenizer.json", "model.safetensors.index.json", *WEIGHTS}
GGUF = {
    "README.md": b"r",
    "tiny-Q4_0.gguf": b"GGUF4" * 10,
    "tiny-Q8_0.gguf": b"GGUF8" * 10,
    **{f"f16/tiny-f16-0000{i}-of-00002.gguf": b"GGUF" + bytes([i]) for i in (1, 2)},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    repos = {"acme/tiny": TINY, "acme/tiny-GGUF": GGUF, "meta-llama/Llama-3.2-1B-Instruct": TINY}
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve(FakeHub(repos)) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        yield fake


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- local names


def test_a_folder_and_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes(b"12345")
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF....")
    blob = tmp_path / "sha256-of-a-blob"
    blob.write_bytes(b"GGUF....")
    assert resolve(tmp_path / "model") == tmp_path / "model"
    assert resolve(str(file)) == file
    assert resolve(blob) == blob
    monkeypatch.chdir(tmp_path)
    assert resolve("model") == Path("model")
    report = pull("model")
    assert (report.path, report.num_bytes, report.files) == (Path("model"), 5, ("config.json",))


def test_the_parts_of_a_local_split_model_are_counted(tmp_path: Path) -> None:
    for i in (1, 2):
        (tmp_path / f"m-0000{i}-of-00002.gguf").write_bytes(b"GGUF" * i)
    assert pull(tmp_path / "m-00001-of-00002.gguf").num_bytes == 12


@pytest.mark.parametrize(
    "name", ["./none", "/none/there", "a/b/c", "~/none-there", "none.gguf", "../none", "a" * 5000 + "/b/c"]
)
def test_no_such_path(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no such folder or file\. Check the path"):
        resolve(name)


def test_a_path_object_is_never_a_repository() -> None:
    with pytest.raises(ModelNotFoundError, match="no such folder or file"):
        resolve(Path("mistralai/Mistral-7B-v0.1"))


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"12345678")
    with pytest.raises(ModelNotFoundError, match=f"no GGUF file. Of .* give the folder, {str(tmp_path)!r}"):
        resolve(path)


def test_a_revision_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="revision='v1' was given for") as caught:
        resolve(tmp_path, revision="v1")
    assert caught.value.param == "revision"


@pytest.mark.parametrize(
    ("name", "close"),
    [("mistral-7b-instuct", "mistral-7b-instruct"), ("lama-3.2-1b", "llama-3.2-1b"), ("Nemoo", "nemo")],
)
def test_an_unknown_alias_with_close_matches(name: str, close: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no known alias") as caught:
        resolve(name)
    assert close in str(caught.value).partition("Did you mean ")[2].partition("?")[0].split(", ")


@pytest.mark.parametrize("name", ["zzzz", "", "two words", "a b/c", "owner/", "\0"])
def test_names_that_are_nothing(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no known alias.*`ostro list`"):
        resolve(name)


def test_a_colon_with_nothing_after_it() -> None:
    with pytest.raises(ModelNotFoundError, match="nothing follows the colon"):
        resolve("acme/tiny-GGUF:")


# --- downloads


def test_only_the_needed_files_are_fetched(hub: FakeHub, tmp_path: Path) -> None:
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    assert set(hub.fetched) == NEEDED
    assert contents(folder) == {name: TINY[name] for name in NEEDED}


def test_what_is_there_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    first = pull("acme/tiny", cache_dir=tmp_path, progress=False)
    hub.fetched.clear()
    again = pull("acme/tiny", cache_dir=tmp_path, progress=False)
    assert again == first
    assert hub.fetched == []
    assert first.num_bytes == sum(len(TINY[name]) for name in NEEDED)
    assert set(first.files) == NEEDED


def test_an_alias(hub: FakeHub, tmp_path: Path) -> None:
    report = pull(" Llama-3.2-1B-instruct\t", cache_dir=tmp_path, progress=False)
    assert report.name == "meta-llama/Llama-3.2-1B-Instruct"


def test_one_gguf_file_of_many(hub: FakeHub, tmp_path: Path) -> None:
    path = resolve("acme/tiny-GGUF:q8_0", cache_dir=tmp_path, progress=False)
    assert path.name == "tiny-Q8_0.gguf"
    assert path.read_bytes() == GGUF["tiny-Q8_0.gguf"]
    assert hub.fetched == ["tiny-Q8_0.gguf"]


def test_a_split_gguf(hub: FakeHub, tmp_path: Path) -> None:
    report = pull("acme/tiny-GGUF:f16", cache_dir=tmp_path, progress=False)
    assert report.path.name == "tiny-f16-00001-of-00002.gguf"
    assert report.path.with_name("tiny-f16-00002-of-00002.gguf").is_file()
    assert report.num_bytes == 10


def test_an_unclear_gguf_is_refused_before_anything_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"acme/tiny-GGUF: several GGUF models.*tiny-Q4_0, tiny-Q8_0, tiny-f16"
    ):
        resolve("acme/tiny-GGUF", cache_dir=tmp_path, progress=False)
    assert hub.fetched == []


def test_a_dropped_connection_is_resumed(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = "model-00002-of-00002.safetensors"
    hub.cut_at[name] = 20_000
    # Chunks smaller than the file, so that the client has a part of it when the connection drops; and no waiting.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    assert (folder / name).read_bytes() == TINY[name]
    assert hub.fetched.count(name) == 2
    assert hub.ranges == ["bytes=20000-"]


def test_files_that_were_complete_are_kept_after_a_failure(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = dict(hub.repos["acme/tiny"])
    hub.repos["acme/tiny"] = {name: data for name, data in full.items() if name != "model-00002-of-00002.safetensors"}
    with pytest.raises(ModelNotFoundError, match=r"the repository lacks model-00002-of-00002\.safetensors"):
        resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    assert hub.fetched == []
    huggingface_hub.hf_hub_download(
        "acme/tiny", "model-00001-of-00002.safetensors", cache_dir=tmp_path, endpoint=hub.endpoint
    )
    hub.repos["acme/tiny"], hub.fetched = full, []
    resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    assert set(hub.fetched) == NEEDED - {"model-00001-of-00002.safetensors"}


def test_revisions(hub: FakeHub, tmp_path: Path) -> None:
    assert resolve("acme/tiny", revision=COMMIT, cache_dir=tmp_path, progress=False).name == COMMIT
    with pytest.raises(ModelNotFoundError, match=r"acme/tiny: there is no revision 'v9'\. Give a branch"):
        resolve("acme/tiny", revision="v9", cache_dir=tmp_path, progress=False)


@pytest.mark.parametrize("progress", [True, False])
def test_the_progress_bar(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], progress: bool
) -> None:
    monkeypatch.setenv("TQDM_POSITION", "-1")  # huggingface_hub then draws its bars without a terminal, too
    resolve("acme/tiny", cache_dir=tmp_path, progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert bool(err) is progress


# --- what can go wrong


def test_no_such_repository(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"acme/none: no such repository .*Check the spelling.*`hf auth login`"
    ):
        resolve("acme/none", cache_dir=tmp_path, progress=False)


def test_a_gated_repository(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated.add("meta-llama/Llama-3.2-1B-Instruct")
    message = (
        r"restricted. Accept its licence on https://huggingface.co/meta-llama/Llama-3\.2-1B-Instruct, then .*HF_TOKEN"
    )
    with pytest.raises(ModelNotFoundError, match=message):
        resolve("llama-3.2-1b-instruct", cache_dir=tmp_path, progress=False)


def test_a_name_that_the_hub_forbids(tmp_path: Path, hub: FakeHub) -> None:
    with pytest.raises(ModelNotFoundError, match="no valid name of a hub repository"):
        resolve("-bad-/--name--", cache_dir=tmp_path, progress=False)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_in_trouble(hub: FakeHub, tmp_path: Path, status: int, no_waiting: None) -> None:
    hub.status = status
    with pytest.raises(ModelNotFoundError, match=f"the hub answered with status {status}, and the model is not in the"):
        resolve("acme/tiny", cache_dir=tmp_path, progress=False)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_waiting: None) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(ModelNotFoundError, match="the hub cannot be reached, and the model is not in the local cache"):
        resolve("acme/tiny", cache_dir=tmp_path, progress=False)


def test_without_a_network_the_cache_serves_and_says_so(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    no_waiting: None,
) -> None:
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, logger="ostro"):
        assert resolve("acme/tiny", cache_dir=tmp_path, progress=False) == folder
    assert "acme/tiny is taken from the local cache" in caplog.text


def test_offline_with_and_without_the_model(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"acme/tiny is not in the local cache.*Run `ostro pull acme/tiny` once"
    ):
        resolve("acme/tiny", offline=True, cache_dir=tmp_path)
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("acme/tiny", offline=True, cache_dir=tmp_path) == folder
    assert resolve("acme/tiny", offline=True, cache_dir=tmp_path, revision=COMMIT) == folder
    with pytest.raises(ModelNotFoundError, match="revision 'v2' of acme/tiny is not in the local cache"):
        resolve("acme/tiny", offline=True, cache_dir=tmp_path, revision="v2")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert resolve("acme/tiny", cache_dir=tmp_path) == folder


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (["model-00002-of-00002.safetensors"], r"lacks model-00002-of-00002\.safetensors\. Run `ostro pull acme/tiny`"),
        (["config.json", "tokenizer.json"], r"lacks config\.json, a tokenizer \(tokenizer\.json, "),
        (list(WEIGHTS), r"acme/tiny: there are no model\*\.safetensors.* in the local cache .*Run `ostro pull"),
    ],
)
def test_offline_names_what_is_missing(hub: FakeHub, tmp_path: Path, gone: list[str], message: str) -> None:
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match=message):
        resolve("acme/tiny", offline=True, cache_dir=tmp_path)


def test_offline_with_shards_that_only_the_index_names(hub: FakeHub, tmp_path: Path) -> None:
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    index = folder / "model.safetensors.index.json"
    index.unlink()
    index.write_text('{"weight_map": {"a": "model-extra.safetensors"}}')
    with pytest.raises(ModelNotFoundError, match=r"lacks model-extra\.safetensors"):
        resolve("acme/tiny", offline=True, cache_dir=tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="no index of safetensors"):
        resolve("acme/tiny", offline=True, cache_dir=tmp_path)


def test_offline_gguf(hub: FakeHub, tmp_path: Path) -> None:
    path = resolve("acme/tiny-GGUF:Q4_0", cache_dir=tmp_path, progress=False)
    assert resolve("acme/tiny-GGUF", offline=True, cache_dir=tmp_path) == path
    with pytest.raises(ModelNotFoundError, match=r"'Q8_0' names none .*Run `ostro pull acme/tiny-GGUF:Q8_0` once"):
        resolve("acme/tiny-GGUF:Q8_0", offline=True, cache_dir=tmp_path)


def test_a_disk_without_room(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 5, 5))
    with pytest.raises(ModelNotFoundError, match=r"acme/tiny: .* GB must be downloaded, but the disk .* 0\.0 GB free"):
        resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    assert hub.fetched == []


def test_a_disk_that_fills_up(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    with pytest.raises(ModelNotFoundError, match=r"acme/tiny: the disk is full\. Make room"):
        resolve("acme/tiny", cache_dir=tmp_path, progress=False)


def test_any_other_failure_is_one_of_ours(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("something in a library")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", broken)
    with pytest.raises(
        ModelNotFoundError, match="acme/tiny: the download failed: RuntimeError: something in a library"
    ):
        resolve("acme/tiny", cache_dir=tmp_path, progress=False)


# --- what is there


def test_list_local(hub: FakeHub, tmp_path: Path) -> None:
    assert list_local(tmp_path / "none") == []
    resolve("acme/tiny-GGUF:Q8_0", cache_dir=tmp_path, progress=False)
    folder = resolve("acme/tiny", cache_dir=tmp_path, progress=False)
    huggingface_hub.hf_hub_download(
        "meta-llama/Llama-3.2-1B-Instruct", "config.json", cache_dir=tmp_path, endpoint=hub.endpoint
    )
    first, second = list_local(tmp_path)  # a repository without weights is not a model
    assert (first.repo, first.revision, first.path, first.gguf_files) == ("acme/tiny", "main", folder, ())
    assert first.num_bytes == sum(len(TINY[name]) for name in NEEDED)
    assert (second.repo, second.gguf_files) == ("acme/tiny-GGUF", ("tiny-Q8_0.gguf",))
