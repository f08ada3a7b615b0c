"""The same for a person, as a page of Gradio: text in, text and attention out."""

import html
from typing import Any

from .service import Look
from .translator import Translator


def make_gradio(translator: Translator, look: Look) -> Any:
    """A page of Gradio; its `launch()` serves it.

    Args:
        translator: that answers.
        look: shows how a text was translated; see scripts/serve.py.

    Raises:
        ValueError: where Gradio is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise ValueError(
            "--gradio needs Gradio 6: pip install 'selfattn_hf[demo]'. Without it there is a page too."
        ) from error

    def answer(text: str) -> tuple[str, str]:
        return (translator(text), table(look(text))) if text.strip() else ("", "")

    return gradio.Interface(
        answer, gradio.Textbox(label="Text"), [gradio.Textbox(label="Translation"), gradio.HTML(label="Attention")],
        title="selfattn_hf",
    )  # fmt: skip


def table(seen: dict[str, Any]) -> str:
    """The mean of all maps as a table, a row for each token of the answer."""
    heads = [head for layer in seen["weights"] for head in layer]
    mean = [[sum(column) / len(heads) for column in zip(*rows, strict=True)] for rows in zip(*heads, strict=True)]
    head = "".join(f"<th>{html.escape(token)}</th>" for token in seen["source_tokens"])
    body = "".join(
        f"<tr><th>{html.escape(token)}</th>"
        + "".join(f'<td style="background: rgb(0 114 178 / {weight:.2f})" title="{weight:.2f}"></td>' for weight in row)
        + "</tr>"
        for token, row in zip(seen["written_tokens"], mean, strict=True)
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>"
