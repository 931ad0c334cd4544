"""What packing a model has cost: size by kind of tensor, and predictions against the source's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostro.checkpoint.packed_folder import is_router
from ostro.quantize.compare import Comparison
from ostro.quantize.verify import Fidelity

KINDS = ("embeddings", "attention", "mlp", "experts", "routers", "norms", "head")


@dataclass(frozen=True, slots=True)
class KindReport:
    """The tensors of one kind together. `made` counts them by how they were made; "kept" ones are as they were."""

    kind: str
    num_weights: int
    nbytes: int
    relative_error: float
    made: dict[str, int]

    @property
    def bits_per_weight(self) -> float:
        """With the share of the scales."""
        return 8 * self.nbytes / self.num_weights


@dataclass(frozen=True, slots=True)
class Report:
    """`text` names the text of the comparison; both are None where none was made. Sizes are in bytes."""

    source: str
    source_form: str
    source_bytes: int
    bits: int
    codebook: str | None
    nbytes: int
    num_weights: int
    kinds: tuple[KindReport, ...]
    requantized: tuple[str, ...]
    backend: str | None
    text: str | None
    comparison: Comparison | None

    @property
    def bits_per_weight(self) -> float:
        """Of the whole model."""
        return 8 * self.nbytes / self.num_weights

    @property
    def unseen_experts(self) -> list[str]:
        """Experts that no token of the text was sent to, whose quality the comparison therefore does not show."""
        counts = self.comparison.expert_tokens if self.comparison else []
        return [f"layer {i} expert {e}" for i, layer in enumerate(counts) for e, seen in enumerate(layer) if not seen]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for `packed.json` and `--json`."""
        values = dataclasses.asdict(self)
        values["bits_per_weight"] = self.bits_per_weight
        values["kinds"] = [{**dataclasses.asdict(k), "bits_per_weight": k.bits_per_weight} for k in self.kinds]
        values["unseen_experts"] = self.unseen_experts
        return values


def kind_of(name: str) -> str:
    """The kind of tensor that a name belongs to.

    >>> kind_of("model.layers.0.block_sparse_moe.experts.3.w1.weight")
    'experts'
    """
    if "norm" in name:
        return "norms"
    if is_router(name):
        return "routers"
    places = {".experts.": "experts", "self_attn": "attention", ".mlp.": "mlp", "lm_head": "head"}
    return next((kind for part, kind in places.items() if part in name), "embeddings")


def kinds_of(tensors: Mapping[str, Fidelity]) -> tuple[KindReport, ...]:
    """The tensors in groups, in the order of `KINDS`; kinds that the model does not have are left out."""
    groups: dict[str, list[Fidelity]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(kind_of(name), []).append(tensor)
    return tuple(_kind(kind, groups[kind]) for kind in KINDS if kind in groups)


def _kind(kind: str, tensors: Sequence[Fidelity]) -> KindReport:
    error, values = sum(t.squared_error for t in tensors), sum(t.squared_values for t in tensors)
    made: dict[str, int] = {}
    for tensor in tensors:
        made[tensor.made or "kept"] = made.get(tensor.made or "kept", 0) + 1
    return KindReport(
        kind=kind,
        num_weights=sum(tensor.num_weights for tensor in tensors),
        nbytes=sum(tensor.nbytes for tensor in tensors),
        relative_error=math.sqrt(error / values) if values else 0.0,
        made=made,
    )


SIZE_COLUMNS = ("TENSORS", "WEIGHTS", "BITS A WEIGHT", "ERROR", "MADE")


def size_rows(report: Report) -> list[tuple[str, ...]]:
    """A row for each kind of tensor, and one for all."""
    rows = [
        (k.kind, f"{k.num_weights:,}", f"{k.bits_per_weight:.2f}", _percent(k.relative_error), _made(k.made))
        for k in report.kinds
    ]
    return [*rows, ("all", f"{report.num_weights:,}", f"{report.bits_per_weight:.2f}", "", "")]


def _made(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {made}" for made, count in counts.items())


def facts_of(report: Report) -> list[tuple[str, str]]:
    """What the comparison found, in pairs of a name and a value."""
    found = report.comparison
    facts = [
        ("source", f"{report.source} ({report.source_form}, {report.source_bytes / 1e6:,.1f} MB)"),
        ("packed", f"{report.bits} bits{f', {report.codebook}' if report.codebook else ''}, {_size(report)}"),
    ]
    if found is None:
        return [*facts, ("compared", "no: no report was asked for")]
    facts += [
        ("compared on", f"{report.text}, {found.num_tokens} tokens, backend {report.backend}"),
        ("KL divergence", f"{found.kl_mean:.5f} nats a token on average, {found.kl_p99:.4f} at the 99th percentile"),
        ("same first choice", f"{_percent(found.top1_agreement)} of the tokens"),
        ("perplexity", f"{found.perplexity_source:.3f} of the source, {found.perplexity_packed:.3f} packed"),
    ]
    if found.expert_tokens:
        unseen = report.unseen_experts
        least = min(min(layer) for layer in found.expert_tokens)
        most = max(max(layer) for layer in found.expert_tokens)
        facts.append(("tokens an expert saw", f"{least} to {most}"))
        facts.append(("experts without tokens", ", ".join(unseen) if unseen else "none"))
    return facts


def _size(report: Report) -> str:
    return f"{report.nbytes / 1e6:,.1f} MB, {report.bits_per_weight:.2f} bits a weight"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def markdown(report: Report) -> str:
    """The report as `report.md`."""
    lines = ["# Packed by ostro quantize", ""]
    lines += [f"- {name}: {value}" for name, value in facts_of(report)]
    lines += ["", *_table(SIZE_COLUMNS, size_rows(report))]
    if report.requantized:
        lines += ["", "GGUF tensors whose values had to be rounded once more:", ""]
        lines += [f"- {name}" for name in report.requantized]
    if report.comparison and report.comparison.expert_tokens:
        counts = report.comparison.expert_tokens
        columns = ("LAYER", *(f"EXPERT {e}" for e in range(len(counts[0]))))
        rows = [(str(layer), *map(str, seen)) for layer, seen in enumerate(counts)]
        lines += ["", "Tokens that every expert saw, as the source's router sent them:", "", *_table(columns, rows)]
    return "\n".join([*lines, "", _EXPLANATION, ""])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


_EXPLANATION = """\
ERROR is the root of the sum of squared errors over that of squared weights. quantized: made from floats; exact: GGUF
blocks in another order, value for value; requantized: GGUF values rounded once more; kept: as the source stores it."""
