"""The licence of the weights: a name that the Hub knows it by, what the card says of it, and a card that is given one.

huggingface_hub has no list of the identifiers, and the Hub adds new ones, so a name is only held to their letters.
"""

import re

from huggingface_hub import ModelCard

LIST = "https://huggingface.co/docs/hub/repositories-licenses"
_NAME = re.compile(r"[a-z0-9]+([.+-]+[a-z0-9]+)*\+*")


def check_licence(name: str) -> None:
    """Refuse what cannot be an identifier of the Hub.

    Raises:
        ValueError: with the name as the Hub would write it, where that can be told.
    """
    if _NAME.fullmatch(name):
        return
    near = re.sub(r"[\s_-]+", "-", name.strip().lower())
    hint = f"Did you mean {near}?" if near != name and _NAME.fullmatch(near) else f"{LIST} has them."
    raise ValueError(
        f"license is an identifier of the Hub, in small letters, digits, dots and hyphens, such as mit, apache-2.0 or "
        f"cc-by-4.0, and other for one that has none; got {name[:80]!r}. {hint}"
    )


def weights_words(name: str | None) -> str:
    """What a card says of the licence of the weights."""
    if name is None:
        return "For the weights, nobody has said a licence here: ask whoever published them."
    if name == "other":
        return f"The weights have a licence that is none of [the Hub's list]({LIST}): ask whoever published them."
    return f"The weights have the licence `{name}`, by whoever published them; the name is one of [the Hub's]({LIST})."


def with_licence(card: str, name: str) -> str:
    """A card that says the licence: in its head, and in its text where that is as a run writes it.

    Raises:
        ValueError: for a name that `check_licence` refuses, or a head that cannot be read or changed.
    """
    check_licence(name)
    line = f"license: {name}"
    before, opened, rest = card.partition("---\n")
    if before or not opened:
        return f"---\n{line}\n---\n\n{card}"  # it has no head
    head, end, text = rest.partition("\n---")
    made, found = re.subn(r"^license:.*$", line, head, flags=re.MULTILINE)
    if not found:
        made = f"{line}\n{head}"
    said = _licence_of(card)
    whole = f"{opened}{made}{end}{text.replace(weights_words(said), weights_words(name), 1)}"
    if _licence_of(whole) != name:
        raise ValueError(f"the card's head says its licence in a way that is not understood. Write {line!r} there.")
    return whole


def _licence_of(card: str) -> str | None:
    try:
        said: str | None = ModelCard(card).data.get("license")
    except Exception as error:  # of YAML's kinds, and the library's own
        raise ValueError(f"the card has a head that cannot be read: {' '.join(str(error).split())[:300]}") from error
    return said
