"""The K/V cache as integers: blocks, block tables, rolling windows and prefix reuse. No arrays here."""

from ostro.cache.blocks import BlockPool
from ostro.cache.prefix import Match, PrefixIndex
from ostro.cache.table import KVCache, SequenceCache

__all__ = ["BlockPool", "KVCache", "Match", "PrefixIndex", "SequenceCache"]
