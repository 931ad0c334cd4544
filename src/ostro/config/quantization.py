"""`quantization_config` of a config.json: ostro's own, which is read, and all others, which are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ostro.config.fields import Fields
from ostro.errors import ConfigError

METHOD = "ostro"
FORMAT = 1
BITS = (4, 8)
CODEBOOKS = ("int4", "nf4")
GROUP_SIZE = 32


@dataclass(frozen=True, slots=True)
class Quantization:
    """What `ostro quantize` was asked for: `bits` of a weight in the layers, and of 4-bit ones the codebook's name.

    `packed.json` beside the configuration has the layout of every tensor. Every group of 32 weights has a scale.
    """

    bits: int
    codebook: str | None

    def to_dict(self) -> dict[str, object]:
        """The content of `quantization_config`.

        >>> Quantization(8, None).to_dict()["bits"]
        8
        """
        stated: dict[str, object] = {"quant_method": METHOD, "format": FORMAT, "bits": self.bits}
        if self.codebook is not None:
            stated["codebook"] = self.codebook
        return stated | {"group_size": GROUP_SIZE}


def read_quantization(data: Mapping[str, object], source: str) -> Quantization | None:
    """How the weights of a `config.json` are quantized; None where it names no quantization.

    ConfigError for another method than ostro's, and for a format, number of bits or codebook that is not known.
    """
    stated = data.get("quantization_config")
    if not stated:
        return None
    method = stated.get("quant_method", "unknown") if isinstance(stated, Mapping) else "unknown"
    if not isinstance(stated, Mapping) or method != METHOD:
        raise ConfigError(
            f"{source}: the weights are quantized by {str(method)!r} (quantization_config), which ostro does "
            "not read. Take the model's float16 or bfloat16 safetensors, or a GGUF file of it."
        )
    fields = Fields(stated, f"quantization_config of {source}")
    fields.text("quant_method")
    if fields.integer("format") != FORMAT:
        raise ConfigError(
            f"{fields.source}: format is {stated['format']!r}, and this ostro reads format {FORMAT}: "
            "use a newer ostro, or quantize the model again."
        )
    bits = fields.integer("bits")
    if bits not in BITS:
        raise fields.wrong("bits", bits, " or ".join(map(str, BITS)))
    fields.allow_only("group_size", [GROUP_SIZE], "packed weights have a scale for every group of that size.")
    fields.require("group_size")
    return Quantization(bits, _codebook(fields, bits))


def _codebook(fields: Fields, bits: int) -> str | None:
    name = fields.text("codebook")
    if bits == 4 and name not in CODEBOOKS:
        raise fields.wrong("codebook", name, " or ".join(CODEBOOKS))
    if bits != 4 and name is not None:
        raise fields.wrong("codebook", name, f"absent at {bits} bits")
    fields.refuse_unread()
    return name
