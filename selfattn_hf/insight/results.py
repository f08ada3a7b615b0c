"""What a probe returns: plain data, which a page, a notebook or a file of results can take as it is."""

import dataclasses
from typing import Any


class Plain:
    """A frozen dataclass of numbers, words and lists of them; a matrix is a list of its rows.

    None stands where there is no number: no map, no way, an affinity of -inf, which JSON does not know.
    """

    def to_dict(self) -> dict[str, Any]:
        """Field -> value, made of dictionaries, lists, numbers and words alone."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]  # a subclass is a dataclass
