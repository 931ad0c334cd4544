"""An embedding model from a hub on the loopback device, and again from the cache alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hub import FakeHub, serve
from tiny_encoders import save_embedder

from ostro.embeddings import open_embedder
from ostro.errors import ModelNotFoundError


def test_a_hub_id_and_then_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_embedder(tmp_path / "m", prompts={"query": "Q: "}, num_hidden_layers=1)
    here = open_embedder(tmp_path / "m").embed(["a cat"], input_type="query").vectors
    names = [path.relative_to(tmp_path / "m").as_posix() for path in (tmp_path / "m").rglob("*") if path.is_file()]
    files = {name: (tmp_path / "m" / name).read_bytes() for name in names}
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    with serve(FakeHub({"acme/embed": {**files, "onnx/model.onnx": b"x", "pytorch_model.bin": b"y"}})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        fetched = open_embedder("acme/embed", cache_dir=cache)
        assert {"onnx/model.onnx", "pytorch_model.bin"} & set(hub.fetched) == set()
        assert {"1_Pooling/config.json", "modules.json", "config_sentence_transformers.json"} <= set(hub.fetched)
    assert fetched.name == "acme/embed"
    assert fetched.embed(["a cat"], input_type="query").vectors.tobytes() == here.tobytes()
    offline = open_embedder("acme/embed", cache_dir=cache, offline=True)
    assert offline.embed(["a cat"], input_type="query").vectors.tobytes() == here.tobytes()
    with pytest.raises(ModelNotFoundError):
        open_embedder("acme/other", cache_dir=cache, offline=True)
