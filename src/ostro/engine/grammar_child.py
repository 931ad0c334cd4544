"""The process in which a grammar is tried out; run by `ostro.engine.grammar_trial`, imported by nobody.

Whatever a hostile grammar does, an endless loop, a stack that overflows, a gigabyte of states, it does here. It imports
llguidance's native module alone, so that it starts in some 20 ms. One JSON object comes in on stdin: `module` (that
module's file), `grammar`, `limits`, `num_tokens`, `special` (names of control tokens to ids), `seconds` and `memory`.
One goes out on stdout: `error`, None where nothing speaks against the grammar.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

STACK_BYTES = 1 << 20
"""Less than any thread of the real process has."""
NUM_STEPS = 256
STRUCTURE = b'"}],:{['


class Bytes:
    """A vocabulary of bytes behind so many other tokens, of which the control tokens alone have a name."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, num_tokens: int, special: dict[str, int]) -> None:
        self.eos_token_id = num_tokens
        self.tokens = [b""] * num_tokens + [b"<end>"] + [bytes([value]) for value in range(255)] + [b""]
        for name, token_id in special.items():
            self.tokens[token_id] = name.encode()
        self.special_token_ids = [*special.values(), num_tokens]

    def __call__(self, text: str) -> list[int]:
        """Ids of text."""
        return [self.eos_token_id + 1 + value for value in text.encode()]


def try_out(native: Any, request: dict[str, Any]) -> str | None:
    """Compile, and take some steps: whatever comes first, and whatever ends things."""
    vocabulary = Bytes(request["num_tokens"], request["special"])
    tokenizer = native.LLTokenizer(vocabulary, slices=[])
    limits = native.LLParserLimits(**request["limits"])
    matcher = native.LLMatcher(tokenizer, request["grammar"], log_level=0, limits=limits)
    first_byte = vocabulary.eos_token_id + 1
    for step in range(NUM_STEPS):
        if matcher.is_error():
            return str(matcher.get_error())
        if matcher.is_stopped():
            return None
        allowed = int.from_bytes(matcher.compute_bitmask(), "little")
        if matcher.is_error():
            return str(matcher.get_error())
        allowed &= ~(1 << vocabulary.eos_token_id)
        if not allowed:
            return None if step else "EMPTY" if matcher.is_accepting() else "IMPOSSIBLE"
        matcher.consume_token(_choice(allowed, first_byte, step))
    return None


def _choice(allowed: int, first_byte: int, step: int) -> int:
    """Some token: at odd steps one that ends something or begins something, at even ones any."""
    choices = [first_byte + value for value in range(255) if allowed >> (first_byte + value) & 1]
    if not choices:
        return allowed.bit_length() - 1
    ends = [first_byte + value for value in STRUCTURE if first_byte + value in choices]
    if step % 2 and ends:
        return ends[step // 2 % len(ends)]
    return choices[step * 7919 % len(choices)]


def _limit(what: int, most: int) -> None:
    """Set a limit of this process, unless it has a stricter one."""
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, request["memory"])
    _limit(resource.RLIMIT_CPU, request["seconds"])
    loader = ExtensionFileLoader("llguidance._lib", request["module"])
    spec = spec_from_file_location(loader.name, loader.path, loader=loader)
    assert spec is not None
    native = module_from_spec(spec)
    loader.exec_module(native)
    found: list[str | None] = []
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=lambda: found.append(try_out(native, request)))
    thread.start()
    thread.join()
    json.dump({"error": found[0]}, sys.stdout)


if __name__ == "__main__":
    main()
