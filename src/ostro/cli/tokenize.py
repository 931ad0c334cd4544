"""`ostro tokenize`: the tokens of a text or a chat, where each came from, and how tokenizers compare."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostro import env
from ostro.cli.console import plural, print_json, print_note, print_rows, print_table, print_warning, table
from ostro.cli.options import Json, ModelOption, Offline, Revision
from ostro.cli.prompt_options import ChatFormatName, SafePrompt, today_option
from ostro.errors import PromptError

if TYPE_CHECKING:
    from ostro.chat import Prompt
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
    """What is to be tokenized: a text, or a conversation with further arguments of `render_chat`."""

    text: str
    conversation: Conversation | None
    bos: bool
    rendering: Mapping[str, Any]

    @property
    def num_characters(self) -> int:
        """Characters that the caller wrote."""
        return self.conversation.num_characters if self.conversation else len(self.text)

    def rows(self, named: NamedTokenizer) -> tuple[list[TokenRow], tuple[str, ...]]:
        """The tokens, and what had to be mended in the conversation."""
        from ostro.cli.tokens import rows_of_prompt, rows_of_text

        if self.conversation is None:
            return rows_of_text(named.tokenizer, self.text, bos=self.bos), ()
        prompt = self._render(self.conversation, named)
        return rows_of_prompt(named.tokenizer, prompt), prompt.repairs

    def _render(self, chat: Conversation, named: NamedTokenizer) -> Prompt:
        from ostro.chat import render_chat

        return render_chat(
            named.tokenizer,
            chat.messages,
            tools=chat.tools,
            family=named.family,
            add_generation_prompt=not chat.ends_with_answer,
            **self.rendering,
        )


def tokenize(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="The text, else stdin; with --compare: the names.")
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
    chat_format: ChatFormatName = None,
    today: Annotated[
        datetime.date | None,
        today_option("The date (YYYY-MM-DD) for prompt formats that state one. Default: the format's own."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse messages that would have to be mended.", rich_help_panel="Prompt"),
    ] = False,
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
    rendering = {"safe_prompt": safe_prompt, "strict": strict, "format": chat_format, "today": today}
    source = _source(text if compare else _single(words, text), chat, bos, rendering)
    if compare:
        if model or tokenizer or not names:
            raise typer.BadParameter("Name the tokenizers after --compare, such as: --compare nemo mistral-large")
        found = [find_tokenizer(name, revision=revision, offline=offline) for name in names]
        _show_comparison(source, found, json)
        return
    if tokenizer is not None and model is not None:
        raise typer.BadParameter("Give either --model or --tokenizer, not both.", param_hint="'--tokenizer'")
    name = _bundled(tokenizer) if tokenizer is not None else model or env.model()
    if name is None:
        raise typer.BadParameter(f"Name a model with -m MODEL, or a tokenizer with --tokenizer: {_BUNDLED_HELP}")
    _show(source, find_tokenizer(name, revision=revision, offline=offline), json)


def _single(words: list[str] | None, text: str | None) -> str | None:
    if words and (len(words) > 1 or text is not None):
        raise typer.BadParameter("Several texts were given; put quotation marks around one.", param_hint="'TEXT'")
    return words[0] if words else text


def _bundled(version: str) -> str:
    from ostro.cli.model_files import BUNDLED

    if version not in BUNDLED:
        raise typer.BadParameter(
            f"There is no {version!r}, but {', '.join(BUNDLED)}; for a model's own: -m MODEL.",
            param_hint="'--tokenizer'",
        )
    return version


def _source(text: str | None, chat: Path | None, bos: bool, rendering: Mapping[str, Any]) -> Source:
    from ostro.cli.input import piped, read_conversation

    if chat is not None:
        if text is not None or not bos:
            raise typer.BadParameter(
                "A chat has its own text and BOS; leave TEXT and --no-bos out.", param_hint="'--chat'"
            )
        read = read_conversation(chat)
        stated = {"safe_prompt": read.safe_prompt, "format": read.chat_format, "today": read.today}
        return Source(
            "", read, bos, {**rendering, **{key: value for key, value in stated.items() if not rendering[key]}}
        )
    if any(rendering.values()):
        raise typer.BadParameter(
            "--safe-prompt, --strict, --chat-format and --today are of a chat: give one with --chat FILE."
        )
    given = piped() if text is None else text
    if given is None:
        raise typer.BadParameter("There is no text: give one, pipe one in, or give a chat with --chat FILE.")
    return Source(given, None, bos, rendering)


def _show(source: Source, named: NamedTokenizer, json: bool) -> None:
    rows, repairs = source.rows(named)
    if json:
        about = {"tokenizer": named.name, "kind": named.tokenizer.kind, "version": named.tokenizer.version}
        print_json(
            about
            | {"num_tokens": len(rows), "num_characters": source.num_characters, "repairs": list(repairs)}
            | _listed(rows)
        )
        return
    # Quotation marks would hide nothing, but a piece may be a space or a line end: repr shows those.
    shown = [
        (
            str(row.index),
            str(row.id),
            row.piece if row.piece.isprintable() and row.piece.strip() else repr(row.piece),
            row.kind,
            row.origin,
        )
        for row in rows
    ]
    print_rows(("#", "ID", "PIECE", "KIND", "FROM"), shown, right=("#", "ID"))
    for repair in repairs:
        print_note(f"mended: {repair}")
    characters = plural(source.num_characters, "character")
    print_note(f"{plural(len(rows), 'token')} for {characters} ({_ratio(len(rows), source)} a character)")


def _listed(rows: list[TokenRow]) -> dict[str, Any]:
    return {"token_ids": [row.id for row in rows], "tokens": [asdict(row) for row in rows]}


def _show_comparison(source: Source, found: list[NamedTokenizer], json: bool) -> None:
    counted = [_counted(source, named) for named in found]
    if json:
        print_json({"num_characters": source.num_characters, "tokenizers": counted})
        return
    fewest = min((c["num_tokens"] for c in counted if c["num_tokens"]), default=1)
    right = ("VOCABULARY", "TOKENS", "A CHARACTER", "MORE")
    rows = table("NAME", "TOKENIZER", "VOCABULARY", "TOKENS", "A CHARACTER", "MORE", right=right)
    for c in counted:
        count = c["num_tokens"]
        more = f"+{100 * (count / fewest - 1):.1f} %" if count and count > fewest else ""
        kind = " ".join(filter(None, (c["kind"], c["version"])))
        shown = "-" if count is None else str(count)
        rows.add_row(c["name"], kind, str(c["vocab_size"]), shown, _ratio(count, source), more)
    print_table(rows)
    print_note(plural(source.num_characters, "character"))
    for c in counted:
        if c["error"]:
            print_warning(f"{c['name']}: {c['error']}")


def _counted(source: Source, named: NamedTokenizer) -> dict[str, Any]:
    """The row of one tokenizer; one whose prompt format cannot express the chat has an error in place of a number."""
    count: int | None = None
    error: str | None = None
    try:
        count = len(source.rows(named)[0])
    except PromptError as refusal:
        error = str(refusal)
    return {
        "name": named.name,
        "kind": named.tokenizer.kind,
        "version": named.tokenizer.version,
        "vocab_size": named.tokenizer.vocab_size,
        "num_tokens": count,
        "tokens_per_character": count / source.num_characters if count and source.num_characters else None,
        "error": error,
    }


def _ratio(count: int | None, source: Source) -> str:
    return f"{count / source.num_characters:.3f}" if count and source.num_characters else "-"
