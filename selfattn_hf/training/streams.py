"""What goes together with a training split that is streamed; everything else is refused before data are read."""

from collections.abc import Mapping
from typing import Any

from selfattn_hf import SelfAttnConfig
from selfattn_hf.data import DataSettings

_NO_WORKERS = "The rows of a stream are read by the run itself, so that it knows where to go on"


def check_stream(
    data: DataSettings, batch_tokens: int | None, given: Mapping[str, Any], fields: Mapping[str, Any]
) -> None:
    """Refuse settings that a stream makes impossible, or that would do nothing beside it.

    Args:
        data: the data settings.
        batch_tokens: the budget of a batch, if there is one.
        given: the training arguments that were given.
        fields: the same with all defaults.

    Raises:
        ValueError: naming the setting, the rule and what to do.
    """
    if fields.get("max_steps", -1) < 1:
        raise ValueError("streaming=true needs max_steps: nobody knows how many rows will come. Set it.")
    if "num_train_epochs" in given:
        raise ValueError("num_train_epochs would do nothing with streaming=true: max_steps alone counts. Leave it out.")
    for kind in ("eval", "save", "logging"):
        if fields.get(f"{kind}_strategy") == "epoch":
            raise ValueError(
                f"{kind}_strategy=epoch never comes with streaming=true: nobody knows where an epoch ends. Set "
                "eval_steps, or save_steps, and logging_steps."
            )
    for name, legal, reason in (
        ("dataloader_num_workers", (0,), _NO_WORKERS),
        ("dataloader_drop_last", (False,), "Every row is used"),
        ("train_sampling_strategy", ("random", "sequential", "group_by_length"), "It needs all rows at once"),
    ):
        if fields.get(name, legal[0]) not in legal:
            shown = ", ".join(map(str, legal))
            raise ValueError(f"{name}={fields[name]} does not go with streaming=true. {reason}: set it to {shown}.")
    lengths = (data.max_source_length, data.max_target_length)
    if batch_tokens is not None and (None in lengths or sum(lengths) > batch_tokens):  # type: ignore[arg-type]
        raise ValueError(
            f"batch_tokens={batch_tokens} must have room for any row of a stream, and max_source_length and "
            f"max_target_length are {lengths[0]} and {lengths[1]}. Raise it, or lower them."
        )


def check_places(config: SelfAttnConfig, data: DataSettings) -> None:
    """Refuse a model that does not know as many places as a row of a stream may have.

    Raises:
        ValueError: naming side, length and limit.
    """
    for side, word in (("encoder", "source"), ("decoder", "target")):
        places, longest = config.known_places(side), getattr(data, f"max_{word}_length")
        if places is not None and (longest is None or longest > places):
            raise ValueError(
                f"a {word} of the stream may have max_{word}_length={longest} tokens, and the {side} knows {places} "
                "places. Lower it, or raise max_position_embeddings."
            )
