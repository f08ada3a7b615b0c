"""What a conversion took, and what it could not take."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Switches that leave alone what a trained model computes, as long as no weight is fresh or dropped.
HARMLESS = frozenset({
    "dropout", "attention_dropout", "initializer_range", "max_position_embeddings", "position_shift",
    "tie_word_embeddings", "use_cache",
})  # fmt: skip


@dataclass(frozen=True)
class ConversionReport:
    """What became of a checkpoint. Without `switched`, nothing is fresh and nothing is dropped.

    Attributes:
        source: folder or Hub id.
        model_type: the source's architecture.
        switched: fields that differ from the source's, each with the value there and the value here.
        fresh: weights here that the source does not have; they are drawn anew.
        dropped: weights of the source that have no place here, by their names there.
        training_only: what the source does in training alone and this model does not, with its rate.
    """

    source: str
    model_type: str
    switched: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    training_only: dict[str, Any] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether the model computes what the source computes, training aside."""
        return self.switched.keys() <= HARMLESS and not self.fresh and not self.dropped

    def __str__(self) -> str:
        changes = ", ".join(f"{name}={new!r} (was {old!r})" for name, (old, new) in self.switched.items())
        lines = [f"{self.source} ({self.model_type}) converted{' with ' if changes else ''}{changes}."]
        if not self.is_equal:
            lines += [
                "It no longer computes what it did, and needs training.",
                f"Newly initialised: {counted(self.fresh)}.",
                f"Dropped: {counted(self.dropped)}.",
            ]
        if self.training_only:
            named = ", ".join(f"{what} ({rate})" for what, rate in self.training_only.items())
            lines.append(f"Training goes on without: {named}.")
        return "\n".join(lines)


def counted(names: Iterable[str]) -> str:
    """Names, those of several layers of a stack as one: `layers.*.fc1.weight (6)`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append(name)
    return (
        ", ".join(f"{name} ({len(same)})" if len(same) > 1 else same[0] for name, same in groups.items()) or "nothing"
    )
