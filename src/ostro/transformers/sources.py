"""From a name to a path and a config: what every `from_pretrained` begins with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ostro.checkpoint.hub import resolve
from ostro.checkpoint.open import open_checkpoint
from ostro.checkpoint.text import read_json
from ostro.config import read_quantization
from ostro.errors import ConfigError, RequestError
from ostro.transformers.configuration import CONFIGS, PreTrainedConfig, hf_values

ConfigT = TypeVar("ConfigT", bound=PreTrainedConfig)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint is taken from: the arguments that every `from_pretrained` of HF's has."""

    name: str | Path
    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False

    def path(self) -> Path:
        """The folder or GGUF file, fetched from the hub if it must and may be."""
        return resolve(self.name, revision=self.revision, cache_dir=self.cache_dir, offline=self.local_files_only)


def take_source(name: str | Path, kwargs: dict[str, Any]) -> Source:
    """The source, its arguments taken out of `kwargs`; code of a repository is never run."""
    if kwargs.pop("trust_remote_code", False):
        raise RequestError(
            "trust_remote_code=True: ostro runs no code of a checkpoint. Leave it out.", param="trust_remote_code"
        )
    return Source(
        name,
        revision=kwargs.pop("revision", None),
        cache_dir=kwargs.pop("cache_dir", None),
        local_files_only=bool(kwargs.pop("local_files_only", False)),
    )


SOURCE_ARGUMENTS = ("revision", "cache_dir", "local_files_only", "trust_remote_code")


def refuse_unknown(where: str, kwargs: Mapping[str, Any], allowed: Collection[str], more: str = "") -> None:
    """RequestError that names the arguments nobody took, and those that there are; `more` goes on after their list."""
    if kwargs:
        name = next(iter(kwargs))
        taken = ", ".join(sorted(allowed)) + more
        raise RequestError(
            f"{where} has no argument {name!r} (given as {kwargs[name]!r}). It takes: {taken}.",
            param=name,
        )


def one_of(name: str, value: Any, older: str, old: Any) -> Any:
    """The value of an argument that has two names; RequestError where both are given and differ."""
    if value is not None and old is not None and value != old:
        raise RequestError(f"{name}={value!r} and {older}={old!r} are one argument: give one.", param=older)
    return old if value is None else value


def read_config(name: str | Path, cls: type[ConfigT], **kwargs: Any) -> ConfigT:
    """The config of a checkpoint; arguments that are no part of the source replace its values."""
    source = take_source(name, kwargs)
    values = config_values(source.path())
    chosen = config_class(values, str(name))
    if not issubclass(chosen, cls):
        raise ConfigError(
            f"{name} is a model of type {chosen.model_type!r}, and {cls.__name__} cannot hold it: use "
            f"{chosen.__name__}, or an Auto class."
        )
    return chosen.from_dict(values, **kwargs)


def config_values(path: Path) -> dict[str, Any]:
    """The content of the folder's `config.json`, or what it would be for a native or GGUF checkpoint.

    Weights that `ostro quantize` packed are unpacked here, so the config does not say that they are quantized.
    """
    file = path / "config.json"
    if file.is_file():
        values = read_json(file)
        if read_quantization(values, str(file)) is not None:
            del values["quantization_config"]
        return values
    return hf_values(open_checkpoint(path).config)


def config_class(values: Mapping[str, Any], where: str) -> type[PreTrainedConfig]:
    """The config class of a `model_type`; ConfigError names those there are."""
    kind = values.get("model_type")
    if kind not in CONFIGS:
        raise ConfigError(f"{where}: model_type {kind!r} cannot be run; ostro runs {', '.join(sorted(CONFIGS))}.")
    return CONFIGS[kind]
