"""Types of the K/V cache, and the bytes they take."""

from __future__ import annotations

_ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
_SCALE_BYTES = 2  # float16

KV_DTYPES = tuple(_ELEMENT_BYTES)
INT8_GROUP = 32
"""Channels of an int8 key or value that share a scale."""


def num_groups(head_dim: int) -> int:
    """Scales of an int8 key or value; the last group may be short."""
    return -(-head_dim // INT8_GROUP)


def kv_row_bytes(kv_dtype: str, head_dim: int) -> int:
    """Bytes of the key, or of the value, of one head of one token in a cache of one of KV_DTYPES, scales included.

    >>> kv_row_bytes("float16", 128), kv_row_bytes("int8", 128)
    (256, 136)
    """
    scales = num_groups(head_dim) * _SCALE_BYTES if kv_dtype == "int8" else 0
    return head_dim * _ELEMENT_BYTES[kv_dtype] + scales
