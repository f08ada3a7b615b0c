"""Trees from a parser: Stanza (Qi et al. 2020, arXiv:2003.07082), which is an extra and fetches its own models.

Each text is parsed as one sentence. Its words are the parser's: punctuation stands alone, and "don't" is two words.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

Parse = tuple[list[str], list[int]]


def parse(texts: Sequence[str], language: str) -> list[Parse]:
    """Words of every text and their heads as Universal Dependencies count them, from 1 on and 0 for the root.

    Raises:
        ValueError: if the package stanza is missing, or has no parser for the language.
    """
    # A blank line would end a sentence even where sentences are not split.
    documents = _pipeline(language).bulk_process([" ".join(text.split()) for text in texts])
    parses = []
    for document in documents:
        words = [word for sentence in document.sentences for word in sentence.words]
        parses.append(([word.text for word in words], [word.head for word in words]))
    return parses


@lru_cache(maxsize=1)
def _pipeline(language: str) -> Any:
    try:
        import stanza
    except ImportError as error:
        raise ValueError(
            "syntax='parser' parses with the package stanza, which is not installed: pip install 'selfattn_hf[parse]'."
        ) from error
    try:
        return stanza.Pipeline(
            language, processors="tokenize,pos,lemma,depparse", tokenize_no_ssplit=True, verbose=False
        )
    except Exception as error:  # its own exceptions share no base
        raise ValueError(
            f"stanza cannot make a parser for syntax_language={language!r}: {error}. See "
            "https://stanfordnlp.github.io/stanza/available_models.html for its languages."
        ) from error
