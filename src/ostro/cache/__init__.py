"""The K/V cache as integers: blocks, block tables, rolling windows and prefix reuse; on disk, bytes. No arrays here."""

from ostro.cache.blocks import BlockPool
from ostro.cache.disk import DiskCache
from ostro.cache.prefix import Match, Node, PrefixIndex
from ostro.cache.table import KVCache, SequenceCache

__all__ = ["BlockPool", "DiskCache", "KVCache", "Match", "Node", "PrefixIndex", "SequenceCache"]
