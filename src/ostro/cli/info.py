"""`ostro info`: a model in numbers, from its configuration and the headers of its files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ostro.cli.console import binary_size, count, decimal_size, facts, print_error, print_json
from ostro.cli.options import Json, ModelArgument, Offline, Revision, model_or_default
from ostro.errors import OstroError, PromptError, TokenizerNotFoundError

if TYPE_CHECKING:
    from ostro.cli.model_files import ModelFiles
    from ostro.config import ModelConfig
    from ostro.tokenizer.base import Tokenizer


def info(model: ModelArgument = None, revision: Revision = None, offline: Offline = False, json: Json = False) -> None:
    """Show a model in numbers: architecture, memory, formats.

    Of weights on this machine only the headers are read; of a model of the hub only the configuration is fetched.

    The exit code is 1 where the files are damaged or do not belong together, which is then named.

    Where the hub cannot be reached, or wants a login first, the numbers of a model with a short name are those that
    were published, and the output says so.
    """
    from ostro.cli.model_files import look_at

    files = look_at(model_or_default(model, "ostro info nemo", or_bundled=True), revision=revision, offline=offline)
    described = describe(files)
    if json:
        print_json(described)
    else:
        facts(_lines(files, described))
        for problem in described["problems"]:
            print_error(problem)
    if described["problems"]:
        raise typer.Exit(1)


def describe(files: ModelFiles) -> dict[str, Any]:
    """Everything that is shown, as one JSON object. Sizes are in bytes."""
    from ostro.bench.weights import planned_bytes

    config = files.config
    total, active = config.num_parameters(), config.num_parameters(active=True)
    problems = [files.problem] if files.problem else []
    tokenizer = _tokenizer(files, problems)
    return {
        "name": files.name,
        "path": None if files.path is None else str(files.path),
        "form": files.form,
        "note": files.note,
        "published_as": _published_name(config),
        "config": asdict(config),
        "num_parameters": {"total": total, "active": active},
        "weight_bytes": {str(bits): planned_bytes(config, bits) for bits in (16, 8, 4)},
        "kv_cache": _kv_cache(config),
        "tokenizer": tokenizer,
        "num_stored": dict(files.num_stored),
        "quantization": None if files.quantization is None else dict(files.quantization),
        "files": dict(files.files),
        "problems": problems,
    }


def _published_name(c: ModelConfig) -> str | None:
    """The published model that has these numbers."""
    from ostro.config import Llama3Rope
    from ostro.config.published import find_published

    scaling = c.rope_scaling
    found = find_published(
        {
            "dim": c.hidden_size, "layers": c.num_hidden_layers, "heads": c.num_attention_heads,
            "kv_heads": c.num_key_value_heads, "head_dim": c.head_dim, "hidden": c.intermediate_size,
            "vocab": c.vocab_size, "window": c.max_window, "experts": c.num_local_experts, "rope_theta": c.rope_theta,
            "rope_factor": scaling.factor if isinstance(scaling, Llama3Rope) else None,
            "scaled_rope": scaling is not None, "tied": c.tie_word_embeddings,
        }
    )  # fmt: skip
    return found.name if found else None


def _kv_cache(config: ModelConfig) -> dict[str, Any]:
    """Bytes at 16 bits: of one token, and of the most that one sequence can take."""
    per_token = config.kv_bytes_per_token("float16")
    kept = min(config.max_window or config.max_position_embeddings, config.max_position_embeddings)
    return {"bytes_per_token": per_token, "max_tokens_kept": kept, "max_bytes": kept * per_token}


def _tokenizer(files: ModelFiles, problems: list[str]) -> dict[str, Any] | None:
    if files.load_tokenizer is None:
        return None
    try:
        tokenizer = files.load_tokenizer()
    except TokenizerNotFoundError as error:  # the model runs without one, on token ids
        return {"error": str(error)}
    except OstroError as error:
        problems.append(str(error))
        return {"error": str(error)}
    if tokenizer.vocab_size > files.config.vocab_size:
        problems.append(
            f"{tokenizer.source} has {tokenizer.vocab_size} tokens, but the model's vocab_size is "
            f"{files.config.vocab_size}: the tokenizer is of another model. Download both again."
        )
    return {
        "kind": tokenizer.kind,
        "version": tokenizer.version,
        "vocab_size": tokenizer.vocab_size,
        "source": tokenizer.source,
        "chat_format": _chat_format(files, tokenizer),
    }


def _chat_format(files: ModelFiles, tokenizer: Tokenizer) -> str | None:
    from ostro.chat import choose_format

    try:
        return choose_format(tokenizer, files.config.family, tokenizer.chat_template).name
    except PromptError:
        return None


def _lines(files: ModelFiles, found: dict[str, Any]) -> list[tuple[str, str]]:
    config, cache = files.config, found["kv_cache"]
    # A name that is a path stands in the line below it, whole.
    name = files.name if files.path is None or not Path(files.name).expanduser().exists() else files.path.name
    published = f" ({found['published_as']})" if found["published_as"] else ""
    lines = [("model", f"{name or files.name}{published}")]
    lines.append(("path", found["path"] or "not on this machine (`ostro pull` brings it)"))
    if files.note:
        lines.append(("numbers", files.note))
    lines += [*_architecture(config), ("stored as", _stored_as(files)), *_packed(found["quantization"])]
    lines.append(("parameters", _parameters(found["num_parameters"])))
    lines += [(f"weights at {bits} bits", decimal_size(size)) for bits, size in _weights(found)]
    lines.append(("", "(at 8 and 4 bits as `ostro quantize` packs it, scales included)"))
    window = " (the window: however long the text)" if config.max_window else " (the whole context)"
    lines.append(("K/V cache", f"{binary_size(cache['bytes_per_token'])} a token at 16 bits"))
    lines.append(("", f"at most {binary_size(cache['max_bytes'])} for {cache['max_tokens_kept']} tokens{window}"))
    lines += _tokenizer_lines(found["tokenizer"], found["problems"])
    lines += [("files" if i == 0 else "", f"{f}  {decimal_size(n)}") for i, (f, n) in enumerate(files.files)]
    return lines


def _weights(found: dict[str, Any]) -> list[tuple[str, int]]:
    return list(found["weight_bytes"].items())


def _parameters(counts: dict[str, int]) -> str:
    text = count(counts["total"])
    if counts["active"] != counts["total"]:
        text += f", of which {count(counts['active'])} are active for a token"
    return text


def _architecture(c: ModelConfig) -> list[tuple[str, str]]:
    experts = f"; {c.num_local_experts} experts, {c.num_experts_per_tok} for a token" if c.num_local_experts else ""
    heads = f"{c.num_attention_heads} query, {c.num_key_value_heads} key/value, head_dim {c.head_dim}"
    vocabulary = f"{c.vocab_size} tokens, output {'tied to' if c.tie_word_embeddings else 'apart from'} the embeddings"
    return [
        ("family", c.family),
        ("layers", f"{c.num_hidden_layers} of width {c.hidden_size}, feed-forward {c.intermediate_size}{experts}"),
        ("heads", heads),
        ("vocabulary", vocabulary),
        ("context", f"{c.max_position_embeddings} tokens{_windows(c)}"),
        ("rotary", f"theta {c.rope_theta:.10g}{_scaling(c)}"),
    ]


def _stored_as(files: ModelFiles) -> str:
    """Types of the tensors, with their shares where they are several."""
    if files.problem:
        return "not known, see below"
    stated = files.config.torch_dtype or "a type that the configuration does not state"
    if not files.num_stored:
        return f"{stated}; the weights are not here" if files.path else stated
    numbers = sum(files.num_stored.values())
    shares = [f"{kind} {100 * number / numbers:.3g} %" for kind, number in files.num_stored.items()]
    return ", ".join(shares if len(shares) > 1 else files.num_stored)


def _packed(quantization: dict[str, Any] | None) -> list[tuple[str, str]]:
    if quantization is None:
        return []
    codebook = f", {quantization['codebook']}" if quantization["codebook"] else ""
    return [("packed", f"{quantization['bits']} bits{codebook}: {quantization['bits_per_weight']:.2f} bits a weight")]


def _windows(c: ModelConfig) -> str:
    windows = {w for w in c.sliding_windows if w is not None}
    if not windows:
        return ""
    where = "" if c.max_window else f" in {sum(w is not None for w in c.sliding_windows)} layers"
    return f", sliding window of {' and '.join(map(str, sorted(windows)))}{where}"


def _scaling(c: ModelConfig) -> str:
    from ostro.config import Llama3Rope

    if c.rope_scaling is None:
        return ""
    if isinstance(c.rope_scaling, Llama3Rope):
        r = c.rope_scaling
        return (
            f", llama3 scaling: factor {r.factor:g}, low {r.low_freq_factor:g}, high {r.high_freq_factor:g}, "
            f"original context {r.original_max_position_embeddings}"
        )
    return ", scaled by a table of the file"


def _tokenizer_lines(found: dict[str, Any] | None, problems: list[str]) -> list[tuple[str, str]]:
    if found is None:
        return [("tokenizer", "known after `ostro pull`")]
    if "error" in found:
        return [("tokenizer", "not readable, see below" if found["error"] in problems else found["error"])]
    version = f" {found['version']}" if found["version"] else ""
    return [
        ("tokenizer", f"{found['kind']}{version}, {found['vocab_size']} tokens"),
        ("chat format", found["chat_format"] or "none: this is a base model"),
    ]
