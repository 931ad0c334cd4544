"""Reading numbers out of a mapping that a file gave: typed, without defaults, and nothing left unread."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from ostro.errors import ConfigError


class Fields:
    """A view of one configuration file that remembers which keys were asked for.

    `refuse_unread` at the end turns every key that nobody asked for, and that is not known to be harmless, into an
    error: a number of the architecture that we do not know may not be dropped in silence.
    """

    def __init__(self, data: Mapping[str, object], source: str) -> None:
        self._data = data
        self.source = source
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Whether the file states the key with a value other than null."""
        self._read.add(key)
        return self._data.get(key) is not None

    def get(self, key: str) -> object:
        """The raw value, None where it is absent or null."""
        self._read.add(key)
        return self._data.get(key)

    def require(self, key: str, *, unless: str = "") -> object:
        """The raw value; ConfigError names key, file and remedy where it is absent or null."""
        value = self.get(key)
        if value is None:
            raise missing(key, self.source, unless)
        return value

    def integer(self, key: str, *, unless: str = "") -> int:
        """A whole number that must be there."""
        return self._integer(key, self.require(key, unless=unless))

    def few(self, key: str) -> int:
        """A number of layers or experts, bounded so that a damaged file cannot ask for a list of 2**60 entries."""
        count = self.integer(key)
        if not 1 <= count <= 10_000:
            raise self.wrong(key, count, "between 1 and 10000")
        return count

    def optional_integer(self, key: str) -> int | None:
        """A whole number, or None where it is absent or null."""
        value = self.get(key)
        return None if value is None else self._integer(key, value)

    def number(self, key: str, *, unless: str = "") -> float:
        """A finite number that must be there."""
        return self._number(key, self.require(key, unless=unless))

    def optional_number(self, key: str) -> float | None:
        """A finite number, or None where it is absent or null."""
        value = self.get(key)
        return None if value is None else self._number(key, value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers that must be there."""
        values = self.require(key)
        if not isinstance(values, list):
            raise self.wrong(key, values, "a list of numbers")
        return tuple(self._number(key, value) for value in values)

    def flag(self, key: str) -> bool | None:
        """True, false, or None where it is absent or null."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def text(self, key: str) -> str | None:
        """A string, or None where it is absent or null."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def inner(self, key: str) -> Fields | None:
        """The object under a key, read in the same way; None where it is absent, null or empty."""
        value = self.get(key)
        if value is None or value == {}:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, value, "an object")
        return Fields(value, f"{key} of {self.source}")

    def token_ids(self, key: str) -> tuple[int, ...]:
        """Token ids stated as one number or as a list; empty where the key is absent or null."""
        value = self.get(key)
        if value is None:
            return ()
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(self._integer(key, item) for item in items)

    def allow_only(self, key: str, allowed: Collection[object], why: str) -> None:
        """Refuse a value other than those allowed; absent and null are allowed always."""
        value = self.get(key)
        if value is not None and value not in allowed:
            names = " or ".join(_show(item) for item in allowed)
            raise ConfigError(f"{self.source}: {key} is {_show(value)}, and only {names} can be run: {why}")

    def refuse_unread(self, harmless: Iterable[str] = ()) -> None:
        """ConfigError that names the keys which nobody read and which are not known to be harmless."""
        known = self._read | set(harmless)
        unknown = sorted(key for key, value in self._data.items() if key not in known and value is not None)
        if unknown:
            listed = ", ".join(f"{key} = {_show(self._data[key])}" for key in unknown[:5])
            raise ConfigError(
                f"{self.source} states {listed}{' and more' if len(unknown) > 5 else ''}, which ostro does not know. "
                "A key may change what the model computes, so none is ignored. If the model runs as a plain Mistral, "
                "Mixtral or Llama without it, leave the key out."
            )

    def wrong(self, key: str, value: object, allowed: str) -> ConfigError:
        """The error for a value of the wrong kind."""
        return ConfigError(f"{self.source}: {key} must be {allowed}, not {_show(value)}.")

    def _integer(self, key: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            return self._sane(key, int(value))
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, value, "a whole number")
        return self._sane(key, value)

    def _sane(self, key: str, value: int) -> int:
        """No architecture has numbers of this size, and arithmetic with larger ones could overflow."""
        if abs(value) >= 2**53:
            raise self.wrong(key, value, "below 2**53")
        return value

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, value, "a number")
        try:
            number = float(value)
        except OverflowError:  # JSON allows whole numbers of any length
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong(key, value, "a finite number")
        return number


@contextmanager
def told_of(source: str) -> Iterator[None]:
    """Put the file's name in front of a ConfigError that does not name it, as those of ModelConfig's own checks."""
    try:
        yield
    except ConfigError as error:
        if source in str(error):
            raise
        raise ConfigError(f"{source}: {error}") from None


def missing(key: str, source: str, unless: str = "") -> ConfigError:
    """The error for a number that is not stated."""
    return ConfigError(
        f'{source} has no "{key}"{unless}. Nothing that changes the model is guessed: '
        f'add "{key}" with the value of the model\'s card to the file, or download the file again.'
    )


def split_head_dim(fields: Fields, explicit: int | None, hidden_size: int, num_heads: int, keys: str) -> int:
    """The stated head dimension, else hidden_size / num_heads: what absence means in the files of HF, Meta and GGUF."""
    if explicit is not None:
        return explicit
    if num_heads < 1 or hidden_size % num_heads:
        raise ConfigError(
            f"{fields.source}: head_dim is not stated and {keys} ({hidden_size} / {num_heads}) does not divide evenly. "
            'Add "head_dim" with the value of the model\'s card to the file.'
        )
    return hidden_size // num_heads


def _show(value: object) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 80 else text[:77] + "..."
