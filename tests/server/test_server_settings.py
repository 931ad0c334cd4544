"""Settings are checked when they are made, and their keys are never shown."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ostro.errors import RequestError
from ostro.server.settings import MIN_PUBLIC_KEY, ServerSettings

GOOD_KEY = "k" * MIN_PUBLIC_KEY


def test_defaults_are_safe() -> None:
    settings = ServerSettings()
    assert settings.is_loopback
    assert settings.origin == "http://127.0.0.1:8000"
    assert settings.cors_origins == ()
    assert not settings.strict


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "models.example.org"])
def test_another_host_wants_a_key(host: str) -> None:
    with pytest.raises(RequestError, match="can be reached from other machines") as caught:
        ServerSettings(host=host)
    assert caught.value.param == "api_keys"
    with pytest.raises(RequestError, match="at least 16 characters") as caught:
        ServerSettings(host=host, api_keys=[GOOD_KEY, "short"])
    assert "short" not in str(caught.value).replace("shorter", "")
    assert ServerSettings(host=host, api_keys=[GOOD_KEY]).api_keys == (GOOD_KEY,)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_wants_none(host: str) -> None:
    assert ServerSettings(host=host).is_loopback


def test_keys_are_not_shown() -> None:
    assert "sesame" not in repr(ServerSettings(api_keys=["open-sesame"]))
    for bad in (["open sesame"], ["sésame"], [""], ["x\n"], ["k" * 513]):
        with pytest.raises(RequestError, match="printable ASCII") as caught:
            ServerSettings(api_keys=bad)
        assert bad[0] not in str(caught.value) or not bad[0]
    with pytest.raises(RequestError) as caught:
        ServerSettings(api_keys="open-sesame")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", ""),
        ("host", "exa mple"),
        ("host", "127.0.0.1:8000"),
        ("port", -1),
        ("port", 65536),
        ("port", True),
        ("port", "8000"),
        ("max_concurrent", 0),
        ("max_queue", -1),
        ("max_body_bytes", 10),
        ("max_json_depth", 7),
        ("max_json_values", 1.5),
        ("max_tokens_limit", 0),
        ("max_choices", 0),
        ("max_inputs", 0),
        ("grace_seconds", -1),
        ("grace_seconds", float("nan")),
        ("body_seconds", float("inf")),
        ("strict", 1),
        ("access_log", "csv"),
        ("cors_origins", ["*"]),
        ("cors_origins", ["https://example.org/"]),
        ("cors_origins", ["example.org"]),
        ("cors_origins", ["http://[::1"]),
        ("cors_origins", ["https://user@example.org"]),
        ("cors_origins", "https://example.org"),
        ("allowed_hosts", ["a b"]),
        ("tls_cert", Path("cert.pem")),
        ("tls_key", Path("key.pem")),
    ],
)
def test_what_is_refused_is_named(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        ServerSettings(**{field: value})
    assert caught.value.param in {field, "tls_cert", "tls_key"}
    assert str(caught.value).startswith(str(caught.value.param))


def test_tls_files_must_be_there(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    with pytest.raises(RequestError, match=r"no file .*cert\.pem"):
        ServerSettings(tls_cert=cert, tls_key=cert)
    cert.touch()
    assert ServerSettings(tls_cert=cert, tls_key=cert, host="::1").origin == "https://[::1]:8000"


def test_every_field_is_explained() -> None:
    text = ServerSettings.__doc__ or ""
    assert [each.name for each in fields(ServerSettings) if f"`{each.name}`" not in text] == []
