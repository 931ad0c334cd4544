"""Puts a trained ostro-mini where it ships: `python -m recipes.ostro_mini.export --model DIR --tokenizer DIR`.

In bfloat16, which ostro, transformers and every other reader of safetensors load; or packed in 8 bits, which is half of it
and for ostro alone. The folder is written whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ostro import LLM, SamplingParams
from ostro.checkpoint import bundled

MAX_BYTES = 24_000_000
"""The most that the folder may take in the repository and in the wheel."""
_BUNDLED = Path(bundled.__file__).parents[1] / "bundled" / bundled.NAME
_GENERATION = {"bos_token_id": 1, "eos_token_id": 2, "do_sample": False}


def export(model: Path, tokenizer: Path, out: Path, *, bits: int = 16) -> int:
    """The bytes of the folder `out`, made anew. ValueError if they are more than MAX_BYTES or the model does not run."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / bundled.NAME
        plain = made if bits == 16 else Path(scratch) / "plain"
        save_bfloat16(model, plain)
        for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / name, plain / name)
        (plain / "generation_config.json").write_text(json.dumps(_GENERATION) + "\n", encoding="utf-8")
        if bits != 16:
            pack(plain, made, bits)
        check_runs(made)
        size = sum(path.stat().st_size for path in made.iterdir())
        if size > MAX_BYTES:
            raise ValueError(
                f"The folder would have {size:,} bytes, and {MAX_BYTES:,} are allowed: pack it with --bits 8."
            )
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
    return size


def save_bfloat16(model: Path, out: Path) -> None:
    """The checkpoint in bfloat16, with its config.json."""
    import torch

    from ostro.transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(out)


def pack(folder: Path, out: Path, bits: int) -> None:
    """The folder in `bits` bits, as `ostro quantize` makes it."""
    from ostro.quantize import quantize_model

    quantize_model(str(folder), out, bits=bits, report=False)


def check_runs(folder: Path) -> None:
    """ValueError unless a question gets an answer that ends."""
    output = LLM(folder).chat([{"role": "user", "content": "Hello!"}], SamplingParams(temperature=0, max_tokens=200))
    if output[0].outputs[0].finish_reason != "stop":
        raise ValueError(f"The model's answer to a greeting does not end: {output[0].outputs[0].text!r}.")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="the last stage's model")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder that tokenizer.py wrote")
    parser.add_argument("--out", type=Path, default=_BUNDLED)
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16)
    given = parser.parse_args(arguments)
    size = export(given.model, given.tokenizer, given.out, bits=given.bits)
    print(f"{given.out}: {size:,} bytes")


if __name__ == "__main__":
    main()
