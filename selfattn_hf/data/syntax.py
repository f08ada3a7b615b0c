"""Where the trees of a source come from: data, a grammar, a parser, or a rule that serves as a control.

A tree over words is carried over to their tokens (`encoding.py`); the controls `chain`, `flat` and `random` are trees
over the tokens themselves and need neither words nor a language.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from transformers import PreTrainedTokenizerBase

from .encoding import Tree, TreeTokens, tokens_over_texts, tokens_over_words
from .grammar import scan_heads
from .heads import TreeError, chain, check_heads, flat, random_heads
from .parser import parse
from .settings import DataSettings, SyntaxName

# A control: number of tokens and text -> heads. A random tree is the same in every process, and so while training,
# evaluating and translating, because the text decides it.
_CONTROLS: dict[str, Callable[[int, str], list[int]]] = {
    "chain": lambda length, text: chain(length),
    "flat": lambda length, text: flat(length),
    "random": lambda length, text: random_heads(length, zlib.crc32(text.encode())),
}


@dataclass(frozen=True)
class Syntax:
    """The way in which the trees of a source are made.

    Args:
        name: as the setting `syntax`.
        language: of the texts, for the parser.

    Raises:
        ValueError: for a name that there is not.

    Examples:
        >>> Syntax("grammar").encode(tokenizer, ["jump left twice"])[0].syntax_heads
        [1, 2, 2, -1]
    """

    name: SyntaxName
    language: str = DataSettings.syntax_language

    def __post_init__(self) -> None:
        if self.name not in get_args(SyntaxName):
            raise ValueError(f"syntax must be one of {', '.join(get_args(SyntaxName))}; got {self.name!r}.")

    @classmethod
    def of(cls, settings: DataSettings) -> "Syntax | None":
        """What the settings say; None where they ask for no trees."""
        return None if settings.syntax is None else cls(settings.syntax, settings.syntax_language)

    @property
    def reads_heads(self) -> bool:
        """Whether words and heads must be given, because the text alone does not tell its tree."""
        return self.name in ("column", "conllu")

    def encode(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str] | Sequence[Sequence[str]],
        heads: Sequence[Sequence[Any] | None] | None = None,
    ) -> list[TreeTokens | TreeError]:
        """Tokens and trees of many texts; for a text without a tree the error that says why, for the caller to raise.

        Args:
            tokenizer: of the source.
            texts: none of them empty; where `reads_heads`, lists of words.
            heads: where `reads_heads`, the heads of each text's words as Universal Dependencies count them, from 1 on
                and 0 for the root, numbers or digits.

        Raises:
            ValueError: if the tokenizer cannot say which token belongs to which word, or an extra is missing.
        """
        if not texts:
            return []
        if self.name in _CONTROLS:
            return tokens_over_texts(tokenizer, texts, _CONTROLS[self.name])  # type: ignore[arg-type]  # texts alone
        if self.name == "grammar":
            return tokens_over_words(tokenizer, [_attempt(str(text).split(), scan_heads) for text in texts])
        pairs = zip(texts, heads or [], strict=True) if self.reads_heads else parse(texts, self.language)  # type: ignore[arg-type]
        return tokens_over_words(tokenizer, [_attempt(words, partial(check_heads, given)) for words, given in pairs])


def _attempt(words: Sequence[str], heads_of: Callable[[Sequence[str]], list[int]]) -> Tree | TreeError:
    try:
        return list(words), heads_of(words)
    except TreeError as error:
        return error
