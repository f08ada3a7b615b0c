"""How large the models are that are compared. Only the standard library, because the command line lists them."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """Sizes that every side of a comparison has alike.

    Attributes:
        width: of a token's state.
        layers: of the encoder, and of the decoder.
        heads: of every attention.
        inner: width of the feed-forward layer.
        vocabulary: tokens, in one table for source, target and output.
        dropout: after embeddings and sublayers.
    """

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    dropout: float = 0.1

    def with_vocabulary(self, tokens: int) -> "Sizes":
        """The same with another vocabulary."""
        return replace(self, vocabulary=tokens)

    def without_dropout(self) -> "Sizes":
        """The same without chance, to be compared number by number."""
        return replace(self, dropout=0.0)

    def training_flops(self, lengths: list[tuple[int, int]]) -> int:
        """Operations that a training step on rows of these (source, target) lengths needs; padding needs none.

        Two for each weight and token, 4 T S D for an attention of T queries over S keys (half of it where the future is
        masked), and the backward pass twice the forward pass. Norms, softmax and dropout are not counted.
        """
        d, think = self.width, 4 * self.width * self.inner
        forward = 0
        for source, target in lengths:
            encoder = source * (8 * d * d + think) + 4 * source * source * d
            own = target * 8 * d * d + 2 * target * target * d
            cross = target * 4 * d * d + source * 4 * d * d + 4 * target * source * d
            forward += self.layers * (encoder + own + cross + target * think) + target * 2 * d * self.vocabulary
        return 3 * forward

    def decoding_weights(self) -> int:
        """Weights that every step of a decoder reads: its layers without keys and values of the source, the output."""
        return self.layers * (6 * self.width**2 + 2 * self.width * self.inner) + self.width * self.vocabulary


SIZES = {
    "tiny": Sizes(width=16, layers=1, heads=2, inner=32, vocabulary=50),
    "small": Sizes(width=256, layers=4, heads=4, inner=1024, vocabulary=8_000),
    "base": Sizes(width=512, layers=6, heads=8, inner=2048, vocabulary=32_000),
}

# Mixing layers whose growth is measured: mixers, and self-attention with a position in its affinities.
MIXING = ("eager", "self_attention", "local_attention", "window", "rnn", "dense", "rope", "shaw", "t5", "alibi",
          "transformer_xl", "kerple", "fire")  # fmt: skip
