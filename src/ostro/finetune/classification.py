"""Classification of texts and of words: the same trainer, with a head of classes in the place of the vocabulary.

A decoder sees only what came before, so the class of a text is read off its last token, and that of a word off the
last token of the word. The head is that of `MistralForSequenceClassification` and `MistralForTokenClassification`.

Shapes: B rows, T tokens of a row, R classified tokens, D hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F

from ostro.finetune.labels import Labels, spans
from ostro.finetune.objective import Batch, LossOutput


@dataclass(frozen=True, slots=True, eq=False)
class LabelBatch:
    """Rows in which `loss_weights` is above 0 at the classified tokens, and their classes (R,), row after row."""

    rows: Batch
    labels: torch.Tensor

    def __post_init__(self) -> None:
        marked = int((self.rows.loss_weights > 0).sum())
        assert self.labels.shape == (marked,), (self.labels.shape, marked)

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return self.rows.num_tokens

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        return type(self)(self.rows.to(device), self.labels.to(device))


class Classification:
    """Cross entropy of the class of each marked token; the loss is a sum over them.

    Metrics: `accuracy`; `f1`, the mean over the classes that occur of the harmonic mean of precision and recall; and
    `span_f1` where the classes are B-X, I-X and O: of whole names, right in both ends and in their kind.
    """

    name = "classification"

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def loss(self, model: Any, batch: LabelBatch) -> LossOutput:
        """The sum over classified tokens, their number, and counts from which `summarize` makes the metrics."""
        logits = class_logits(model, batch.rows)
        total = F.cross_entropy(logits, batch.labels, reduction="sum")
        predicted = logits.detach().argmax(dim=-1)
        counts = self._counts(batch.labels, predicted)
        if self.labels.are_spans:
            lengths = (batch.rows.loss_weights > 0).sum(dim=1).tolist()
            counts |= self._span_counts(torch.split(batch.labels, lengths), torch.split(predicted, lengths))
        return LossOutput(total, float(len(logits)), counts)

    def _counts(self, wanted: torch.Tensor, predicted: torch.Tensor) -> dict[str, float]:
        number = len(self.labels.names)
        hits = wanted[wanted == predicted]
        kinds = (("wanted", wanted), ("predicted", predicted), ("hits", hits))
        counted = {kind: torch.bincount(ids, minlength=number).tolist() for kind, ids in kinds}
        return {f"{kind}.{label}": float(n) for kind, row in counted.items() for label, n in enumerate(row)}

    def _span_counts(self, wanted: Sequence[torch.Tensor], predicted: Sequence[torch.Tensor]) -> dict[str, float]:
        names = self.labels.names
        sums = {"spans.wanted": 0.0, "spans.predicted": 0.0, "spans.hits": 0.0}
        for one, other in zip(wanted, predicted, strict=True):
            right, found = (spans([names[label] for label in row.tolist()]) for row in (one, other))
            sums["spans.wanted"] += len(right)
            sums["spans.predicted"] += len(found)
            sums["spans.hits"] += len(right & found)
        return sums

    def summarize(self, sums: dict[str, float], weight: float) -> dict[str, float]:
        """Accuracy and F1 of the counts."""
        labels = range(len(self.labels.names))
        counts = [[sums[f"{kind}.{label}"] for kind in ("wanted", "predicted", "hits")] for label in labels]
        scores = [f1(*row) for row in counts if row[0] or row[1]]
        out = {"accuracy": sum(hits for *_, hits in counts) / weight, "f1": sum(scores) / max(1, len(scores))}
        if self.labels.are_spans:
            out["span_f1"] = f1(*(sums[f"spans.{kind}"] for kind in ("wanted", "predicted", "hits")))
        return out


def f1(wanted: float, predicted: float, hits: float) -> float:
    """The harmonic mean of hits / wanted and hits / predicted; 1 where nothing was wanted and nothing predicted.

    >>> f1(4, 2, 2)
    0.6666666666666666
    """
    return 2 * hits / (wanted + predicted) if wanted + predicted else 1.0


def class_logits(model: Any, rows: Batch) -> torch.Tensor:
    """Logits (R, C), float32, of the marked tokens, row after row."""
    out = model.model(input_ids=rows.token_ids, position_ids=rows.position_ids, use_cache=False)
    hidden = out.last_hidden_state[rows.loss_weights > 0]
    if hasattr(model, "dropout"):
        hidden = model.dropout(hidden)
    logits: torch.Tensor = model.score(hidden).float()
    return logits
