"""Texts -> ids that end, and trees over words -> trees over their tokens.

The model reads two numbers per token: `syntax_heads`, the place of its head in the row, its own for the root, and
`syntax_nodes`, the place of the first token of its word. The first token stands for the word and hangs on the first
token of the head word; the other tokens of the word hang on it. Special tokens, the end token among them, have -1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from .heads import TreeError

NO_NODE = -1  # of special tokens and padding

Tree = tuple[list[str], list[int]]
"""Words and their heads, from 0 on, the root its own."""


@dataclass(frozen=True)
class TreeTokens:
    """The tokens of one text; three lists of one length."""

    input_ids: list[int]
    syntax_heads: list[int]
    syntax_nodes: list[int]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, target: bool = False) -> list[list[int]]:
    """Ids of every text with the end token last, whether or not the tokenizer adds one."""
    key = "text_target" if target else "text"  # some tokenizers mark the language of each side
    encoded = tokenizer(**{key: list(texts)}, return_attention_mask=False, verbose=False)["input_ids"]
    return [with_end(tokenizer, ids) for ids in encoded]


def with_end(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """The ids, with the end token last; the mark of a language that mBART's tokenizer puts behind it stays there."""
    end = tokenizer.eos_token_id
    ended = ids[-1:] == [end] or (ids[-2:-1] == [end] and ids[-1] in tokenizer.all_special_ids)
    return ids if ended else [*ids, end]


def tokens_over_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], make: Callable[[int, str], list[int]]
) -> list[TreeTokens | TreeError]:
    """Tokens of every text with a tree over the tokens themselves; each is a node of its own.

    Args:
        tokenizer: of the source.
        texts: none of them empty.
        make: number of tokens that are not special, and the text -> their heads, from 0 on.
    """
    encoded = tokenizer(list(texts), return_attention_mask=False, return_special_tokens_mask=True, verbose=False)
    rows: list[TreeTokens | TreeError] = []
    for text, ids, special in zip(texts, encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        places = [place for place, is_special in enumerate(special) if not is_special]
        word_of: list[int | None] = [None] * len(ids)
        for number, place in enumerate(places):
            word_of[place] = number
        rows.append(_tree_tokens(tokenizer, ids, word_of, places, make(len(places), text)))
    return rows


def tokens_over_words(
    tokenizer: PreTrainedTokenizerBase, trees: Sequence[Tree | TreeError]
) -> list[TreeTokens | TreeError]:
    """Tokens of every text with the tree of its words; errors pass through, and a word without a token makes one.

    Raises:
        ValueError: if the tokenizer cannot say which token belongs to which word, or runs words together.
    """
    good = [tree for tree in trees if not isinstance(tree, TreeError)]
    if not good:
        return list(trees)  # type: ignore[arg-type]  # nothing but errors
    _check_tokenizer(tokenizer)
    encoded = tokenizer(
        [words for words, _ in good], is_split_into_words=True, return_attention_mask=False, verbose=False
    )
    rows: list[TreeTokens | TreeError] = []
    for number, (words, heads) in enumerate(good):
        word_of = encoded.word_ids(number)
        first = {word: place for place, word in reversed(list(enumerate(word_of))) if word is not None}
        missing = next((place for place in range(len(words)) if place not in first), None)
        if missing is not None:
            rows.append(TreeError(f"word {missing + 1} ({words[missing]!r}) has no token"))
            continue
        places = [first[word] for word in range(len(words))]
        rows.append(_tree_tokens(tokenizer, encoded["input_ids"][number], word_of, places, heads))
    made = iter(rows)
    return [tree if isinstance(tree, TreeError) else next(made) for tree in trees]


def _tree_tokens(
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    word_of: Sequence[int | None],
    first: Sequence[int],
    heads: Sequence[int],
) -> TreeTokens:
    """`word_of` each token, `first` token of each word, `heads` of the words -> heads and nodes of the tokens."""
    nodes = [NO_NODE if word is None else first[word] for word in word_of]
    token_heads = [
        NO_NODE if word is None else first[heads[word]] if place == first[word] else first[word]
        for place, word in enumerate(word_of)
    ]
    ended = with_end(tokenizer, ids)
    end = [NO_NODE] * (len(ended) - len(ids))
    return TreeTokens(ended, token_heads + end, nodes + end)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    name = tokenizer.name_or_path or type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise ValueError(
            f"the tokenizer {name} does not say which token belongs to which word, and trees over words need it. Set "
            "tokenizer to one that has a tokenizer.json."
        )
    # Byte-level tokenizers from the Hub put no space before a word unless they are told to.
    if tokenizer.decode(tokenizer(["a", "a"], is_split_into_words=True)["input_ids"], skip_special_tokens=True) == "aa":
        raise ValueError(
            f"the tokenizer {name} runs the words of a list together. Load it with add_prefix_space=True, save it, and "
            "set tokenizer to the saved folder."
        )
