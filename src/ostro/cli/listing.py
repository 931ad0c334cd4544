"""`ostro list`: models that have a short name, and models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostro.cli.console import decimal_size, print_json, print_table, stdout, table
from ostro.cli.options import Json

if TYPE_CHECKING:
    from ostro.checkpoint.aliases import Alias
    from ostro.checkpoint.hub import LocalModel

_WIDEST, _WITH_REPOSITORY = 157, 120


def list_models(json: Json = False) -> None:
    """Show short names of models, and the models that are here."""
    from ostro.checkpoint.aliases import aliases
    from ostro.checkpoint.hub import list_local

    local = list_local()
    if json:
        here = {model.repo for model in local}
        print_json({"models": [_alias(a, a.repo in here) for a in aliases()], "local": [_local(m) for m in local]})
        return
    _show_aliases(aliases())
    stdout().print()
    _show_local(local)


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


def _show_aliases(known: tuple[Alias, ...]) -> None:
    """As many columns as fit; the name and what decides whether one may and can run it always do."""
    console = stdout()
    width = console.width if console.is_terminal else _WIDEST
    columns = ["NAME", "PARAMETERS", "LICENCE"]
    if width >= _WITH_REPOSITORY:
        columns.insert(1, "REPOSITORY")
    if width >= _WIDEST:
        columns.append("WHAT IT IS")
    rows = table(*columns)
    for alias in known:
        cells = {
            "NAME": alias.name,
            "REPOSITORY": alias.repo,
            "PARAMETERS": alias.parameters,
            "LICENCE": alias.licence + (" *" if alias.gated else ""),
            "WHAT IT IS": alias.note,
        }
        rows.add_row(*(cells[column] for column in columns))
    print_table(rows)
    if any(alias.gated for alias in known):
        console.print("* the licence may have to be accepted on the model's page of the hub first", style="dim")


def _show_local(local: list[LocalModel]) -> None:
    if not local:
        stdout().print("No model is on this machine yet; `ostro pull NAME` brings one.", soft_wrap=True)
        return
    rows = table("ON THIS MACHINE", "REVISION", "SIZE", "FORM", right=("SIZE",))
    for model in local:
        form = ", ".join(model.gguf_files) or "safetensors"
        rows.add_row(model.repo, model.revision[:12], decimal_size(model.num_bytes), form)
    print_table(rows)
