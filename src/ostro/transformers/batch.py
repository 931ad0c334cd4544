"""`BatchEncoding`: a dict of ids and masks that can be unpacked, moved and read by attribute."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import torch

from ostro.errors import RequestError
from ostro.ops.torch import find_device

Rows = list[tuple[list[int], list[int]]]
"""Ids and mask of each row."""


class BatchEncoding(UserDict[str, Any]):
    """`input_ids` and `attention_mask` by key and by attribute: `model(**batch)`, `batch.input_ids`."""

    def to(self, device: str | int | torch.device, non_blocking: bool = False) -> Self:
        """Move the tensors; BackendError for a device that is not here."""
        found = find_device(device)
        for key, value in self.data.items():
            if isinstance(value, torch.Tensor):
                self.data[key] = value.to(found, non_blocking=non_blocking)
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "data" or name not in self.data:
            raise AttributeError(f"BatchEncoding has no {name!r}; it has {', '.join(self.__dict__.get('data', ()))}.")
        return self.data[name]


def make_batch(rows: Rows, return_tensors: str | None, *, single: bool, with_mask: bool) -> BatchEncoding:
    """Lists, flat for a single text, or arrays (B, T)."""
    columns: dict[str, Any] = {"input_ids": [ids for ids, _ in rows]}
    if with_mask:
        columns["attention_mask"] = [mask for _, mask in rows]
    if return_tensors is None:
        return BatchEncoding({key: value[0] if single else value for key, value in columns.items()})
    if return_tensors not in ("pt", "np"):
        raise RequestError(f'return_tensors must be "pt" or "np", not {return_tensors!r}.', param="return_tensors")
    if len({len(ids) for ids, _ in rows}) > 1:
        raise RequestError(
            f"The texts have {sorted({len(ids) for ids, _ in rows})} tokens: an array needs padding=True.",
            param="padding",
        )
    arrays = {key: np.asarray(value, dtype=np.int64) for key, value in columns.items()}
    if return_tensors == "np":
        return BatchEncoding(arrays)
    return BatchEncoding({key: torch.from_numpy(value) for key, value in arrays.items()})


def pad_rows(
    rows: list[list[int]], padding: bool | str, pad_id: int | None, max_length: int, multiple: int | None, side: str
) -> Rows:
    """Rows with their masks, filled up to one length where `padding` asks for it."""
    if padding in (False, "do_not_pad"):
        return [(row, [1] * len(row)) for row in rows]
    if padding not in (True, "longest", "max_length"):
        raise RequestError(f'padding must be True, "longest", "max_length" or False, not {padding!r}.', param="padding")
    if side not in ("left", "right"):
        raise RequestError(f'padding_side must be "left" or "right", not {side!r}.', param="padding_side")
    length = max((len(row) for row in rows), default=0)
    if padding == "max_length":
        if max_length >= 10**29:
            raise RequestError(
                'padding="max_length" needs a max_length: this tokenizer states none.', param="max_length"
            )
        length = max(length, max_length)
    length += -length % (multiple or 1)
    if pad_id is None and any(len(row) < length for row in rows):
        raise RequestError(
            "The tokenizer has no token to pad with. Choose one: tokenizer.pad_token = tokenizer.eos_token.",
            param="padding",
        )
    return [_pad(row, length - len(row), pad_id or 0, side) for row in rows]


def _pad(row: list[int], missing: int, pad_id: int, side: str) -> tuple[list[int], list[int]]:
    fill, hidden, shown = [pad_id] * missing, [0] * missing, [1] * len(row)
    return ([*fill, *row], [*hidden, *shown]) if side == "left" else ([*row, *fill], [*shown, *hidden])


def text_list(text: Any) -> list[str]:
    """One text or several as a list; RequestError for what is no text."""
    if isinstance(text, str):
        return [text]
    shown = type(text).__name__
    if isinstance(text, Iterable) and not isinstance(text, Mapping | bytes):
        texts = list(text)
        others = [type(item).__name__ for item in texts if not isinstance(item, str)]
        if not others:
            return texts
        shown = f"a {shown} with {others[0]} in it"
    raise RequestError(f"text must be a string or a list of strings, not {shown}.", param="text")


def token_list(ids: Any) -> list[int]:
    """Ids (T,) of a list, array or tensor, or one id, as a list of ints."""
    if isinstance(ids, torch.Tensor | np.ndarray):
        ids = ids.tolist()
    if isinstance(ids, int):
        return [ids]
    return [int(i) for i in ids]
