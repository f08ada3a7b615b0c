"""How a family of models is told in the words of this one: a table of fields and a table of weights."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Change = Callable[[Tensor, Any], Tensor | None]
"""A weight and its model's config -> the weight as it is here; None: it was checked, and is computed here."""

SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
INNER_DROPOUT = "dropout inside the feed-forward"


@dataclass(frozen=True)
class Family:
    """Models of one architecture.

    Attributes:
        fields: field of `SelfAttnConfig` -> field of the source's config that has the same meaning.
        constants: fields of `SelfAttnConfig` that are the same for all models of the family.
        derived: the source's config -> fields of `SelfAttnConfig` that must be worked out; raises ValueError.
        equal: pairs of fields of the source's config for which there is one field here.
        names: pattern and what it becomes, tried on the name of a weight one after the other, all of them.
        changes: pattern of a name here, and how such a weight changes; the first that is found in the name counts.
        training_only: field of the source's config -> what it does in training alone, which nothing does here.
    """

    fields: Mapping[str, str]
    constants: Mapping[str, Any]
    derived: Callable[[Any], dict[str, Any]]
    equal: Sequence[tuple[str, str]]
    names: Sequence[tuple[str, str]]
    changes: Sequence[tuple[str, Change]]
    training_only: Mapping[str, str]

    def config_fields(self, config: Any) -> dict[str, Any]:
        """Fields of `SelfAttnConfig` for a source's config.

        Raises:
            ValueError: for what has no counterpart here, naming the field, its value and what is supported.
        """
        for one, other in self.equal:
            first, second = getattr(config, one), getattr(config, other)
            if first != second:
                raise ValueError(
                    f"{one}={first} and {other}={second} differ, and here both sides have the same. Only models in "
                    "which they are equal can be converted."
                )
        ids = {name: getattr(config, name, None) for name in SPECIAL_IDS}
        mapped = {ours: getattr(config, theirs) for ours, theirs in self.fields.items()}
        return {**mapped, **self.constants, **ids, **self.derived(config)}

    def name(self, theirs: str) -> str:
        """The name of a weight here; one that no pattern knows keeps a name that nothing here has."""
        for pattern, replacement in self.names:
            theirs = re.sub(pattern, replacement, theirs)
        return theirs

    def change(self, name: str, weight: Tensor, config: Any) -> Tensor | None:
        """A weight of the source as it is here, under its name here; see `Change`."""
        for pattern, change in self.changes:
            if re.search(pattern, name):
                return change(weight, config)
        return weight

    def left_out(self, config: Any) -> dict[str, Any]:
        """What this model does in training alone and is not carried over, in words, each with its rate."""
        return {what: rate for name, what in self.training_only.items() if (rate := getattr(config, name, None))}


def one_of(field: str, value: Any, known: Mapping[Any, Any]) -> Any:
    """The counterpart of a value.

    Raises:
        ValueError: where it has none, naming the field, the value and what is supported.
    """
    if value not in known:
        raise ValueError(
            f"{field}={value!r} has no counterpart here. Models with one of these can be converted: {', '.join(known)}."
        )
    return known[value]


def multiplied(weight: Tensor, factor: float) -> Tensor:
    """Rounded once, whatever the number format."""
    return (weight.double() * factor).to(weight.dtype)
