"""`ostro run`: one question, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ostro.cli.console import print_json, write
from ostro.cli.options import AdapterOption, Json, LoadOptions, ModelOption, model_or_default
from ostro.cli.prompt_options import PromptOptions, require_chat_format
from ostro.cli.sampling_options import SamplingOptions

if TYPE_CHECKING:
    from ostro import LLM, SamplingParams
    from ostro.chat import Prompt

Stream = Annotated[bool, typer.Option("--stream/--no-stream", help="Print the text as it comes, or all at the end.")]


def run(
    around: PromptOptions,
    load: LoadOptions,
    sampling: SamplingOptions,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The question; what stdin brings is added to it.")
    ] = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    stream: Stream = True,
    json: Json = False,
) -> None:
    """Answer one question.

    ostro run -m nemo "Why is the sky blue?"

    cat letter.txt | ostro run -m nemo "Sum it up."
    """
    from ostro.cli.input import piped

    name = model_or_default(model, 'ostro run -m nemo "..."', adapter, or_bundled=True)
    parts = [part for part in (prompt, piped()) if part]
    if not parts:
        raise typer.BadParameter("There is no question: give one, or pipe a text in.", param_hint="'PROMPT'")
    sampling.params()  # what is wrong with the options is said before a model is loaded
    rendering = around.rendering()
    llm = load.load(name, adapter=adapter, max_num_seqs=1)
    require_chat_format(llm, name, around.chat_format)
    messages = [{"role": "system", "content": around.system}] if around.system else []
    messages.append({"role": "user", "content": "\n\n".join(parts)})
    question = llm.render(messages, **rendering)
    params = sampling.params(llm.default_params)
    if json:
        from ostro.cli.outputs import result

        print_json(result(name, llm.generate(question, params)[0]))
    elif stream:
        _stream(llm, question, params)
    else:
        text = llm.generate(question, params)[0].outputs[0].text
        write(text if text.endswith("\n") else text + "\n")


def _stream(llm: LLM, prompt: Prompt, params: SamplingParams) -> None:
    text = ""
    with llm.stream(prompt, params) as chunks:
        for chunk in chunks:
            text = chunk.text or text
            write(chunk.text)
    write("" if text.endswith("\n") else "\n")
