"""What lies beside a vocabulary: names of BOS and EOS, added tokens, the checkpoint's chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostro.errors import TokenizerError

GGUF_VOCABULARY = "tokenizer_gguf.json"
"""The vocabulary of a GGUF file as `ostro quantize` takes it along: an object of the metadata `tokenizer.*`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`bos` and `eos` are names of tokens, None where no file names one. `adds_bos` is True where no file says so."""

    bos: str | None = None
    eos: str | None = None
    chat_template: str | None = None
    adds_bos: bool = True


def read_settings(folder: Path) -> Settings:
    """From tokenizer_config.json, then special_tokens_map.json; a template also from a file of its own, which wins."""
    config = read_object(folder / "tokenizer_config.json")
    special = read_object(folder / "special_tokens_map.json")
    return Settings(
        bos=_token_name(config.get("bos_token")) or _token_name(special.get("bos_token")),
        eos=_token_name(config.get("eos_token")) or _token_name(special.get("eos_token")),
        chat_template=_template_file(folder) or _default_template(config.get("chat_template")),
        adds_bos=_adds_bos(folder / "tokenizer_config.json", config.get("add_bos_token")),
    )


def read_added_tokens(folder: Path) -> dict[str, int]:
    """added_tokens.json: name to id. Older fine-tunes keep there what they added to a `tokenizer.model`."""
    path = folder / "added_tokens.json"
    added = read_object(path)
    if wrong := next((name for name, value in added.items() if type(value) is not int), None):
        raise TokenizerError(f"{path}: the id of {wrong!r} is {added[wrong]!r}, not a number. Fetch the file again.")
    return dict(added)


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object from a file; empty if there is no such file; TokenizerError if it is something else."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is no valid JSON: {error}. It may be truncated; fetch it again.") from None
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} holds a JSON {type(data).__name__}, not an object. Fetch it again.")
    return data


def _adds_bos(path: Path, value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise TokenizerError(f"{path}: add_bos_token is {value!r}, not true or false. Correct it.")
    return value is not False


def _token_name(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _template_file(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _default_template(read_object(folder / "chat_template.json").get("chat_template"))
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path} cannot be read as UTF-8 text: {error}. Fetch it again.") from None


def _default_template(value: object) -> str | None:
    """A template, or of a list of named ones that called "default"."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)}
        value = named.get("default")
    return value if isinstance(value, str) else None
