"""K/V of dense batches, as `past_key_values`: it grows with the text, and rolls where a layer has a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ostro.config import ModelConfig
from ostro.errors import RequestError
from ostro.transformers.configuration import PreTrainedConfig

KV = tuple[torch.Tensor, torch.Tensor]


@dataclass(slots=True)
class CacheLayer:
    """One layer: keys and values (B, G, S, d), the last S of `num_seen` positions; `window` None keeps them all."""

    window: int | None = None
    num_seen: int = 0
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor) -> KV:
        """Add T positions (B, G, T, d). Returns what they may attend to: what was kept, and themselves."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.num_seen += keys.shape[2] - (0 if self.keys is None else self.keys.shape[2])
        self.keys, self.values = self._kept(keys), self._kept(values)
        return keys, values

    def _kept(self, side: torch.Tensor) -> torch.Tensor:
        """The next position sees itself and window - 1 before it. A copy, so that the rest can be freed."""
        if self.window is None or side.shape[2] < self.window:
            return side
        return side[:, :, side.shape[2] - (self.window - 1) :].clone()


class DynamicCache:
    """K/V of all layers for a batch.

    Made with a model's config, a layer with a sliding window W keeps its last W - 1 positions, however long the text
    grows; without one everything is kept, and windows are honoured by masks.
    """

    def __init__(self, config: PreTrainedConfig | ModelConfig | None = None) -> None:
        numbers = config.to_model_config() if isinstance(config, PreTrainedConfig) else config
        windows: tuple[int | None, ...] = () if numbers is None else numbers.sliding_windows
        self.layers = [CacheLayer(window) for window in windows]

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> KV:
        """Add T positions (B, G, T, d) to a layer; returns all that they may attend to."""
        while len(self.layers) <= layer:
            self.layers.append(CacheLayer())
        return self.layers[layer].update(keys, values)

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions seen so far, those that rolled out included."""
        return self.layers[layer].num_seen if self.layers else 0

    @property
    def nbytes(self) -> int:
        """Bytes of K and V."""
        return sum(side.nbytes for layer in self for side in layer)

    def crop(self, num_positions: int) -> None:
        """Forget all but the first positions; refused where the beginning has rolled out of a window."""
        for layer in self.layers:
            if layer.keys is None or layer.values is None or layer.num_seen <= num_positions:
                continue
            if layer.keys.shape[2] < layer.num_seen:
                raise RequestError(
                    f"The cache has rolled: of {layer.num_seen} positions a layer with window {layer.window} keeps the "
                    f"last {layer.keys.shape[2]}. Use DynamicCache() without a config, which keeps all.",
                    param="past_key_values",
                )
            layer.keys, layer.values = layer.keys[:, :, :num_positions], layer.values[:, :, :num_positions]
            layer.num_seen = num_positions

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> KV:
        keys, values = self.layers[layer].keys, self.layers[layer].values
        if keys is None or values is None:
            raise IndexError(f"layer {layer} of the cache is empty")
        return keys, values

    def __iter__(self) -> Iterator[KV]:
        return (self[i] for i in range(len(self)) if self.layers[i].keys is not None)


Past = DynamicCache | Sequence[KV] | None
"""What `past_key_values` may be: a cache, or pairs of keys and values, one of each layer."""
