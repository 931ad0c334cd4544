"""`PrefixIndex`: which blocks hold the K/V of which beginning of a text.

A tree with one node for each full block of tokens. The key of a node is (parent node, its tokens), compared by
equality: a hit is the same tokens from the very first on, never only the same hash. The K/V at a position depends
on every token before it (through the layers, even where attention is windowed), so a node means its whole path.

A node may lose its block (eviction) while blocks further down live on: a windowed model needs the last window only.
A node without block, children and pins is pruned.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

DIGEST_BYTES = 20


class Node:
    """One full block of tokens after its parent's; compared by identity. `uses` counts children, pins and the block."""

    __slots__ = ("_digest", "block", "key", "uses")

    def __init__(self, key: tuple[Node | None, Hashable]) -> None:
        self.key = key
        self.block: int | None = None
        self.uses = 0
        self._digest: bytes | None = None

    @property
    def parent(self) -> Node | None:
        """The node of the tokens before; None for the root of a salt."""
        return self.key[0]

    @property
    def path(self) -> list[Node]:
        """The nodes from this one up to the root of its salt."""
        nodes = [self]
        while (parent := nodes[-1].parent) is not None:
            nodes.append(parent)
        return nodes

    @property
    def tokens(self) -> bytes:
        """The block's token ids, as `packed` gives them."""
        assert isinstance(self.key[1], bytes)
        return self.key[1]

    @property
    def digest(self) -> bytes | None:
        """A name for salt and tokens from the very first on, the same in every process.

        None under a salt that is neither text nor texts: it means something in this process only.
        """
        if self._digest is None:
            for node in reversed(self.path):
                if node._digest is None:
                    parent, own = node.key
                    if parent is None:
                        node._digest = _digest_of_salt(own)
                        if node._digest is None:
                            return None
                    else:
                        assert parent._digest is not None
                        node._digest = digest(parent._digest, node.tokens)
        return self._digest


@dataclass(frozen=True, slots=True)
class Match:
    """The longest reusable beginning of a prompt.

    `num_blocks` full blocks need not be computed; `blocks` are the physical ones from logical block `first_block` on
    (0, or where the window of the next position begins). `node` is the last of the path.
    """

    node: Node
    num_blocks: int
    first_block: int
    blocks: tuple[int, ...]


class PrefixIndex:
    """The tree. `max_nodes` bounds it: a windowed text without end would grow a path without end.

    >>> index = PrefixIndex(block_size=2)
    >>> node = index.insert(index.root(""), [5, 6], block=3)
    >>> index.match("", [5, 6, 7]).blocks
    (3,)
    """

    def __init__(self, block_size: int, max_nodes: int = 65536) -> None:
        self.block_size = block_size
        self.max_nodes = max_nodes
        self._nodes: dict[tuple[Node | None, Hashable], Node] = {}
        self._of_block: dict[int, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def is_full(self) -> bool:
        """Whether no new node can be made."""
        return len(self._nodes) >= self.max_nodes

    def root(self, salt: Hashable) -> Node:
        """The empty text under `salt`; texts under different salts never share blocks. Pin it, or insert below it."""
        key = (None, salt)
        return self._nodes.setdefault(key, Node(key))

    def insert(self, parent: Node, tokens: Sequence[int], block: int) -> Node | None:
        """The node of `tokens` (one full block) after `parent`, or None when the tree is full.

        The node takes `block`, unless it holds another one with the same content already: see `Node.block`.
        """
        assert len(tokens) == self.block_size
        key = (parent, packed(tokens))
        node = self._nodes.get(key)
        if node is None:
            if self.is_full:
                return None
            node = self._nodes[key] = Node(key)
            parent.uses += 1
        if node.block is None:
            assert block not in self._of_block, "a block has one content"
            node.block = block
            node.uses += 1
            self._of_block[block] = node
        return node

    def match(self, salt: Hashable, token_ids: Sequence[int], window: int | None = None) -> Match:
        """The longest reusable beginning; at least the last token is left, because its logits must be computed.

        With a `window` W, position p can be next if the blocks of positions p-W+1 .. p-1 are all there.
        """
        node = best = self.root(salt)
        held: list[int | None] = []
        num_blocks = run = 0  # run: how many of the latest blocks are there without a gap
        size = self.block_size
        for start in range(0, len(token_ids) - size, size):
            child = self._nodes.get((node, packed(token_ids[start : start + size])))
            if child is None:
                break
            node = child
            held.append(node.block)
            run = 0 if node.block is None else run + 1
            if run >= len(held) - self.first_needed(len(held) * size, window):
                best, num_blocks = node, len(held)
        first = self.first_needed(num_blocks * size, window)
        blocks = [block for block in held[first:num_blocks] if block is not None]
        assert len(blocks) == num_blocks - first
        return Match(best, num_blocks, first, tuple(blocks))

    def first_needed(self, position: int, window: int | None) -> int:
        """Logical index of the first block that a row at `position` attends to."""
        return 0 if window is None else max(0, position - window + 1) // self.block_size

    def pin(self, node: Node) -> None:
        """Keep the node from being pruned: a sequence goes on from it."""
        node.uses += 1

    def unpin(self, node: Node) -> None:
        """Undo one `pin`."""
        self._let_go(node)

    def drop(self, block: int) -> None:
        """The content of a block is lost."""
        node = self._of_block.pop(block)
        node.block = None
        self._let_go(node)

    def _let_go(self, node: Node) -> None:
        node.uses -= 1
        assert node.uses >= 0
        pruned: Node | None = node
        while pruned is not None and pruned.uses == 0:
            del self._nodes[pruned.key]
            pruned = pruned.parent
            if pruned is not None:
                pruned.uses -= 1


def _digest_of_salt(salt: Hashable) -> bytes | None:
    """Of a text, or of a tuple of texts, which is another one than any text."""
    if isinstance(salt, str):
        return hashlib.blake2b(_utf8(salt), digest_size=DIGEST_BYTES, person=b"salt").digest()
    if not isinstance(salt, tuple) or not all(isinstance(part, str) for part in salt):
        return None
    parts = [_utf8(part) for part in salt]
    joined = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return hashlib.blake2b(joined, digest_size=DIGEST_BYTES, person=b"salts").digest()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def packed(tokens: Sequence[int]) -> bytes:
    """The ids as 8 bytes each: equal only if all ids are, and a fraction of a tuple's memory."""
    return array("q", tokens).tobytes()


def digest(parent: bytes, tokens: bytes) -> bytes:
    """The `Node.digest` of a block by that of the block before."""
    return hashlib.blake2b(parent + tokens, digest_size=DIGEST_BYTES, person=b"block").digest()
