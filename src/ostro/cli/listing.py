"""`ostro list`: the model that comes with ostro, models that have a short name, and models on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostro.cli.console import decimal_size, print_json, print_note, print_rows, print_table, stdout, table
from ostro.cli.options import Json

if TYPE_CHECKING:
    from ostro.checkpoint.aliases import Alias
    from ostro.checkpoint.hub import LocalModel
    from ostro.models.convert.cache import PackedModel


def list_models(json: Json = False) -> None:
    """Show short names of models, and the models that are here."""
    from ostro.checkpoint import bundled
    from ostro.checkpoint.aliases import aliases
    from ostro.checkpoint.hub import list_local
    from ostro.models.convert.cache import cached_models

    own = bundled.bundled_model()
    local, packed = list_local(), cached_models()
    if json:
        here = {model.repo for model in local}
        known = [_alias(a, a.repo in here) for a in aliases()]
        print_json(
            {
                "bundled": None if own is None else {"name": bundled.NAME, "path": str(own), "bytes": _num_bytes(own)},
                "models": known,
                "local": [_local(m) for m in local],
                "packed": [_packed(m) for m in packed],
            }
        )
        return
    if own is not None:
        _show_bundled(bundled.NAME, own)
        stdout().print()
    _show_aliases(aliases())
    stdout().print()
    _show_local(local)
    if packed:
        stdout().print()
        _show_packed(packed)


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _show_bundled(name: str, folder: Path) -> None:
    rows = table("COMES WITH OSTRO", "SIZE", "WHAT IT IS", right=("SIZE",))
    rows.add_row(name, decimal_size(_num_bytes(folder)), "for trying things out: it knows a few tasks only")
    print_table(rows)


def _alias(alias: Alias, is_local: bool) -> dict[str, Any]:
    return {
        "name": alias.name,
        "synonyms": list(alias.synonyms),
        "repo": alias.repo,
        "parameters": alias.parameters,
        "licence": alias.licence,
        "gated": alias.gated,
        "note": alias.note,
        "local": is_local,
    }


def _local(model: LocalModel) -> dict[str, Any]:
    return {
        "repo": model.repo,
        "revision": model.revision,
        "path": str(model.path),
        "bytes": model.num_bytes,
        "gguf_files": list(model.gguf_files),
    }


def _packed(model: PackedModel) -> dict[str, Any]:
    return {
        "path": str(model.path),
        "bytes": model.nbytes,
        "bits": model.bits,
        "bits_per_weight": round(model.bits_per_weight, 4),
    }


def _show_aliases(known: tuple[Alias, ...]) -> None:
    """As many columns as fit, and a line about the others."""
    cells = {
        "NAME": [alias.name for alias in known],
        "REPOSITORY": [alias.repo for alias in known],
        "PARAMETERS": [alias.parameters for alias in known],
        "LICENCE": [alias.licence for alias in known],
        "WHAT IT IS": [alias.note for alias in known],
    }
    console = stdout()
    columns = _that_fit(cells, console.width) if console.is_terminal else list(cells)
    print_rows(columns, list(zip(*(cells[name] for name in columns), strict=True)))
    if any(alias.gated for alias in known):
        print_note("The hub may ask you to log in, and to accept a model's licence on its page, before a download.")
    if left_out := [name for name in cells if name not in columns]:
        print_note(f"No room here for {', '.join(left_out)}: see `ostro list | less -S`, or make the window wider.")


def _that_fit(cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The first columns, as many as a line can hold; at least the first of them."""
    fitting: list[str] = []
    used = 0
    for name, column in cells.items():
        used += max(map(len, [name, *column])) + 2
        if fitting and used - 2 > width:
            break
        fitting.append(name)
    return fitting


def _show_local(local: list[LocalModel]) -> None:
    if not local:
        stdout().print("No model is on this machine yet; `ostro pull NAME` brings one.", soft_wrap=True)
        return
    rows = table("ON THIS MACHINE", "REVISION", "SIZE", "FORM", right=("SIZE",))
    for model in local:
        form = ", ".join(model.gguf_files) or _form(model)
        rows.add_row(model.repo, model.revision[:12], decimal_size(model.num_bytes), form)
    print_table(rows)


def _form(model: LocalModel) -> str:
    from ostro.checkpoint.open import packed_bits

    bits = packed_bits(model.path)
    return "safetensors" if bits is None else f"packed, {bits} bits"


def _show_packed(packed: list[PackedModel]) -> None:
    """What `--quantize` has left in the cache; a folder that is not wanted any more can be deleted."""
    rows = table("PACKED BY --quantize", "BITS", "BITS A WEIGHT", "SIZE", right=("BITS", "BITS A WEIGHT", "SIZE"))
    for model in packed:
        rows.add_row(str(model.path), str(model.bits), f"{model.bits_per_weight:.2f}", decimal_size(model.nbytes))
    print_table(rows)
