"""A saved model with its tokenizers, and the pairs of texts that it reads: where looking into a model starts."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import Tokenizers, encode_texts, load_tokenizers
from ..inference.sources import Sources
from ..model import MODELS, SelfAttnConfig
from .pairs import Pair, pair_of


@dataclasses.dataclass(frozen=True)
class Probed:
    """A loaded model with its tokenizers.

    Attributes:
        model: in eval mode.
        tokenizers: of source and target.
    """

    model: Any
    tokenizers: Tokenizers

    def read(self, source: Any = "", target: str | None = None, heads: Sequence[int | str] | None = None) -> Pair:
        """The pair of a text, or of a list of words with its `heads` where the model was trained on given trees.

        Args:
            source: what the encoder reads; for a decoder alone leave it out.
            target: what the decoder writes; None: the model's own answer (greedy). For a decoder alone what it reads.
            heads: as for `Translator`: the number of each word's head, from 1 on, and 0 for the root.

        Raises:
            ValueError: for what the model cannot read; see `pair_of` and `Translator`.
        """
        trees: dict[str, Any] = {}
        ids: list[int] = []
        if source:
            sources = Sources(self.tokenizers, self.model.config)
            sources.check_heads(source, heads is not None)
            row = sources.encode([source], None if heads is None else [heads])[0]
            ids = row.get("input_ids", [])
            trees = {"heads": row.get("syntax_heads"), "nodes": row.get("syntax_nodes")}
        written = None if target is None else encode_texts(self.tokenizers.target, [target], target=True)[0]
        return pair_of(self.model, ids, written, tokenizers=self.tokenizers, **trees)


def load_for_probing(folder_or_id: str | Path, *, revision: str | None = None) -> Probed:
    """Load a saved model, of whatever class it was saved as, with its tokenizers.

    Args:
        folder_or_id: a folder that `scripts/train.py` left, or the name of a model on the Hub.
        revision: commit, tag or branch on the Hub.

    Raises:
        ValueError: for a folder that is not whole or of another model, or a tokenizer that is not the model's.
        OSError: where nothing can be loaded from.

    Examples:
        >>> probed = load_for_probing("runs/quickstart")
        >>> attention_maps(probed.model, probed.read("the tenth of May 2020")).cross
    """
    config = SelfAttnConfig.from_pretrained(folder_or_id, revision=revision)
    name = (config.architectures or [""])[0]
    kind = next((kind for kind in MODELS if kind.__name__ == name), None)
    if kind is None:
        raise ValueError(
            f"config.json of {folder_or_id} names the class {name!r}, and a model of this package is one of "
            f"{', '.join(kind.__name__ for kind in MODELS)}. Save the model again by save_pretrained()."
        )
    tokenizers = load_tokenizers(folder_or_id, revision=revision)
    model: Any = kind.from_pretrained(folder_or_id, revision=revision, config=config)
    tokenizers.check_fit(model.config.vocab_size)
    return Probed(model.eval(), tokenizers)
