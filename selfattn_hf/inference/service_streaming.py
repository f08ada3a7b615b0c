"""An answer told while it is written, piece by piece."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from .sources import Sources
from .translator import Translator

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # how a tokenizer of bytes shows a letter that is not whole yet


class GoneError(Exception):
    """Nobody listens any more."""


class Pieces(BaseStreamer):
    """Takes tokens from generate() and tells the text that each of them adds.

    Args:
        tokenizer: of the target.
        tell: is given every piece.
        is_gone: asked before every token; True ends the writing.
    """

    def __init__(self, tokenizer: Any, tell: Callable[[str], None], is_gone: Callable[[], bool]) -> None:
        self.tokenizer, self.tell, self.is_gone = tokenizer, tell, is_gone
        self.ids: list[int] = []
        self.told = ""

    def put(self, value: Tensor) -> None:
        """One token of the one row; generate() gives the start token first."""
        if self.is_gone():
            raise GoneError
        self.ids += value.flatten().tolist()
        self._tell(final=False)

    def end(self) -> None:
        """What was held back."""
        self._tell(final=True)

    def _tell(self, final: bool) -> None:
        text = self.text()
        whole = final or not text.endswith(INCOMPLETE)
        if whole and text.startswith(self.told) and len(text) > len(self.told):
            self.tell(text[len(self.told) :])
            self.told = text

    def text(self) -> str:
        """All that was written."""
        text: str = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        return text


@torch.inference_mode()
def stream(
    translator: Translator,
    text: str,
    tell: Callable[[str], None],
    is_gone: Callable[[], bool],
    max_new_tokens: int | None = None,
) -> str:
    """Translate one text greedily and tell every piece of the answer as soon as it is written.

    Args:
        translator: that answers.
        text: what it reads.
        tell: is given every piece; joined they are the answer.
        is_gone: asked before every token; True ends the writing.
        max_new_tokens: longest answer in tokens; None: as saved with the model.

    Returns:
        The whole answer.

    Raises:
        GoneError: where nobody listens any more.
        ValueError: as for a `Translator`.
    """
    settings, _ = translator._settings(1, max_new_tokens, {"do_sample": False})
    sources = Sources(translator.tokenizers, translator.model.config)
    row = sources.encode([text], None)[0]
    if not row:
        return ""
    pieces = Pieces(translator.tokenizers.target, tell, is_gone)
    batch = sources.batch([row], translator.model.device)
    translator.model.generate(**batch, generation_config=settings, streamer=pieces)
    return pieces.text()
