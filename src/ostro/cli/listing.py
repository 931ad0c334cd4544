"""`ostro list`: models that have a short name, and models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostro.cli.console import decimal_size, print_json, print_table, stdout, table
from ostro.cli.options import Json

if TYPE_CHECKING:
    from ostro.checkpoint.aliases import Alias
    from ostro.checkpoint.hub import LocalModel


def list_models(json: Json = False) -> None:
    """Show the short names of models, and which models are on this machine."""
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
    rows = table("NAME", "REPOSITORY", "PARAMETERS", "LICENCE", "ACCESS", "WHAT IT IS")
    for alias in known:
        access = "ask on the hub" if alias.gated else "open"
        rows.add_row(alias.name, alias.repo, alias.parameters, alias.licence, access, alias.note)
    print_table(rows)


def _show_local(local: list[LocalModel]) -> None:
    if not local:
        stdout().print("No model is on this machine yet; `ostro pull NAME` brings one.", soft_wrap=True)
        return
    rows = table("ON THIS MACHINE", "REVISION", "SIZE", "FORM", right=("SIZE",))
    for model in local:
        form = ", ".join(model.gguf_files) or "safetensors"
        rows.add_row(model.repo, model.revision[:12], decimal_size(model.num_bytes), form)
    print_table(rows)
