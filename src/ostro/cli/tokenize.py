"""`ostro tokenize`: the tokens of a text or a chat, where each came from, and how tokenizers compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro import env
from ostro.cli.console import print_json, print_note, print_table, printable, stdout, table
from ostro.cli.options import Json, ModelOption, Offline, Revision, SafePrompt

if TYPE_CHECKING:
    from ostro.chat.segments import Prompt
    from ostro.cli.input import Conversation
    from ostro.cli.model_files import NamedTokenizer
    from ostro.cli.tokens import TokenRow

_BUNDLED_HELP = "One that needs no download: v1, v2, v3, v3-tekken, v7 or v7-tekken."
ChatFile = Annotated[
    Path | None,
    typer.Option("--chat", metavar="FILE", help="JSON of messages, or of an object with messages and tools; -: stdin."),
]


@dataclass(frozen=True)
class Source:
    """What is to be tokenized: a text, or a conversation."""

    text: str
    conversation: Conversation | None
    bos: bool
    safe_prompt: bool
    strict: bool

    @property
    def num_characters(self) -> int:
        """Characters that the caller wrote."""
        return self.conversation.num_characters if self.conversation else len(self.text)

    def render(self, named: NamedTokenizer) -> Prompt | None:
        """The prompt of the conversation; None for a text."""
        from ostro.chat.render import render_chat

        chat = self.conversation
        if chat is None:
            return None
        return render_chat(
            named.tokenizer, chat.messages, tools=chat.tools, family=named.family,
            safe_prompt=self.safe_prompt, strict=self.strict,
        )  # fmt: skip

    def rows(self, named: NamedTokenizer) -> list[TokenRow]:
        """The tokens."""
        from ostro.cli.tokens import rows_of_prompt, rows_of_text

        prompt = self.render(named)
        if prompt is not None:
            return rows_of_prompt(named.tokenizer, prompt)
        return rows_of_text(named.tokenizer, self.text, bos=self.bos)


def tokenize(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]", help="The text, else stdin; with --compare: the names.")
    ] = None,
    model: ModelOption = None,
    tokenizer: Annotated[str | None, typer.Option(metavar="VERSION", help=_BUNDLED_HELP)] = None,
    chat: ChatFile = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Count the tokens under several tokenizers: models, short names, versions."),
    ] = False,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="The text, for --compare.")] = None,
    bos: Annotated[bool, typer.Option("--bos/--no-bos", help="Put BOS before a text, as generate does.")] = True,
    safe_prompt: SafePrompt = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse messages that would have to be mended.")] = False,
    revision: Revision = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Show the tokens of a text or a chat, and where each came from.

    ostro tokenize -m nemo "Hello"

    ostro tokenize --compare nemo mistral-large --chat chat.json
    """
    from ostro.cli.model_files import find_tokenizer

    names = words or [] if compare else []
    source = _source(text if compare else _single(words, text), chat, bos=bos, safe_prompt=safe_prompt, strict=strict)
    if compare:
        if model or tokenizer or not names:
            raise typer.BadParameter("Name the tokenizers after --compare, such as: --compare nemo mistral-large")
        found = [find_tokenizer(name, revision=revision, offline=offline) for name in names]
        _show_comparison(source, found, json)
        return
    if tokenizer is not None and model is not None:
        raise typer.BadParameter("Give either --model or --tokenizer, not both.", param_hint="--tokenizer")
    name = _bundled(tokenizer) if tokenizer is not None else model or env.model()
    if name is None:
        raise typer.BadParameter(f"Name a model with -m MODEL, or a tokenizer with --tokenizer: {_BUNDLED_HELP}")
    _show(source, find_tokenizer(name, revision=revision, offline=offline), json)


def _single(words: list[str] | None, text: str | None) -> str | None:
    if words and (len(words) > 1 or text is not None):
        raise typer.BadParameter("Several texts were given; put quotation marks around one.", param_hint="TEXT")
    return words[0] if words else text


def _bundled(version: str) -> str:
    from ostro.cli.model_files import BUNDLED

    if version not in BUNDLED:
        raise typer.BadParameter(
            f"There is no {version!r}, but {', '.join(BUNDLED)}; for a model's own: -m MODEL.", param_hint="--tokenizer"
        )
    return version


def _source(text: str | None, chat: Path | None, *, bos: bool, safe_prompt: bool, strict: bool) -> Source:
    from ostro.cli.input import read_conversation, text_or_stdin

    if chat is None:
        if safe_prompt or strict:
            raise typer.BadParameter("--safe-prompt and --strict are of a chat: give one with --chat FILE.")
        return Source(text_or_stdin(text), None, bos, safe_prompt, strict)
    if text is not None or not bos:
        raise typer.BadParameter("A chat has its own text and BOS; leave TEXT and --no-bos out.", param_hint="--chat")
    return Source("", read_conversation(chat), bos, safe_prompt, strict)


def _show(source: Source, named: NamedTokenizer, json: bool) -> None:
    rows = source.rows(named)
    if json:
        about = {"tokenizer": named.name, "kind": named.tokenizer.kind, "version": named.tokenizer.version}
        print_json(about | {"num_tokens": len(rows), "num_characters": source.num_characters} | _listed(rows))
        return
    shown = table("#", "ID", "PIECE", "KIND", "FROM", right=("#", "ID"))
    for row in rows:
        # Quotation marks would hide nothing, but a piece may be a space or a line end: repr shows those.
        piece = row.piece if row.piece.isprintable() and row.piece.strip() else repr(row.piece)
        shown.add_row(str(row.index), str(row.id), printable(piece), row.kind, row.origin)
    print_table(shown)
    print_note(f"{len(rows)} tokens for {source.num_characters} characters ({_ratio(len(rows), source)} a character)")


def _listed(rows: list[TokenRow]) -> dict[str, Any]:
    return {"token_ids": [row.id for row in rows], "tokens": [asdict(row) for row in rows]}


def _show_comparison(source: Source, found: list[NamedTokenizer], json: bool) -> None:
    counts = [(named, len(source.rows(named))) for named in found]
    characters = source.num_characters
    if json:
        print_json(
            {
                "num_characters": characters,
                "tokenizers": [_compared(named, count, characters) for named, count in counts],
            }
        )
        return
    fewest = min(count for _, count in counts)
    right = ("VOCABULARY", "TOKENS", "A CHARACTER", "MORE")
    rows = table("NAME", "TOKENIZER", "VOCABULARY", "TOKENS", "A CHARACTER", "MORE", right=right)
    for named, count in counts:
        kind = " ".join(filter(None, (named.tokenizer.kind, named.tokenizer.version)))
        more = f"+{100 * (count / fewest - 1):.1f} %" if count > fewest else ""
        rows.add_row(named.name, kind, str(named.tokenizer.vocab_size), str(count), _ratio(count, source), more)
    print_table(rows)
    stdout().print(f"{characters} characters", style="dim")


def _compared(named: NamedTokenizer, count: int, characters: int) -> dict[str, Any]:
    return {
        "name": named.name,
        "kind": named.tokenizer.kind,
        "version": named.tokenizer.version,
        "vocab_size": named.tokenizer.vocab_size,
        "num_tokens": count,
        "tokens_per_character": count / characters if characters else None,
    }


def _ratio(count: int, source: Source) -> str:
    return f"{count / source.num_characters:.3f}" if source.num_characters else "-"
