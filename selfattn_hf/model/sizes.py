"""Chapter 0 of 8, continued: how large a model may be. Before: fields.py. Next: switches.py.

Sizes are bounded, alone and together, before anything is built: a file of a few bytes must not take the memory of a
machine.
"""

from typing import Any

from .fields import refuse_unless

LARGEST = 2**31 - 1  # of any size: what an index of 32 bits counts
MOST_LAYERS = 1000
# As much as one person trains: 40 GB of weights in float32.
MOST_PARAMETERS = 10**10
MOST_HEADS_NAMED = 256

_SIZES = ("vocab_size", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads", "intermediate_size",
          "max_position_embeddings", "window_radius", "relative_max_distance", "relative_num_buckets")  # fmt: skip


def check_sizes(config: Any) -> None:
    """Check sizes, rates and token ids.

    Raises:
        ValueError: naming the field, the rule, what was given and what to do.
    """
    for name in _SIZES:
        given, most = getattr(config, name), MOST_LAYERS if name.endswith("_layers") else LARGEST
        refuse_unless(given >= 1, f"{name} is a size and starts at 1, got {given}")
        refuse_unless(given <= most, f"{name} is a size and ends at {most}, got {given}")
    shift = config.position_shift
    refuse_unless(0 <= shift <= LARGEST, f"position_shift is a number of places from 0 to {LARGEST}, got {shift}")
    for name in ("dropout", "attention_dropout"):
        rate = getattr(config, name)
        refuse_unless(0 <= rate < 1, f"{name} is a rate from 0 to below 1, got {rate}")
    refuse_unless(1 < config.rope_theta < float("inf"), f"rope_theta is a base above 1, got {config.rope_theta}")
    refuse_unless(0 < config.norm_eps <= 1, f"norm_eps is a number above 0 and at most 1, got {config.norm_eps}")
    std = config.initializer_range
    refuse_unless(
        std is None or 0 < std < float("inf"),
        f"initializer_range is a standard deviation above 0, or None for Glorot's, got {std}",
    )
    refuse_unless(
        config.head_dim is not None or config.hidden_size % config.num_attention_heads == 0,
        f"num_attention_heads must divide hidden_size, got {config.num_attention_heads} heads for a width of "
        f"{config.hidden_size}. Choose one of: {_divisors(config.hidden_size)}; or set head_dim",
    )
    refuse_unless(
        config.head_dim is None or 1 <= config.head_dim <= LARGEST,
        f"head_dim is a size from 1 to {LARGEST}, or None for hidden_size / num_attention_heads, got {config.head_dim}",
    )
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        given = getattr(config, name)
        refuse_unless(given != [], f"{name} names one id or several, got an empty list. Leave it out, or give None")
        for token in given if isinstance(given, list) else [given]:
            refuse_unless(
                token is None or 0 <= token < config.vocab_size,
                f"{name} must name a row of the embedding table, 0 to {config.vocab_size - 1}, got {token}. "
                "Set it, or vocab_size, to what the tokenizer has",
            )


def check_parameters(config: Any) -> None:
    """Refuse a model with more parameters than `MOST_PARAMETERS`, counted from below: what is small is left out.

    Raises:
        ValueError: naming the sizes that make most of them.
    """
    parts = _parts(config)
    total = sum(number for number, _ in parts)
    number, names = max(parts)
    sizes = ", ".join(f"{name}={value}" for name in names if (value := getattr(config, name)) is not None)
    refuse_unless(
        total <= MOST_PARAMETERS,
        f"this config asks for {total:.1e} parameters, {number:.1e} of them by {sizes}, and {MOST_PARAMETERS:.0e} are "
        "the most. Lower one of these sizes",
    )


def _parts(config: Any) -> list[tuple[int, tuple[str, ...]]]:
    """Parameters of the larger parts, each with the sizes that it comes from."""
    wide, heads, places = config.hidden_size, config.num_attention_heads, config.max_position_embeddings
    inner = heads * config.head_width
    of_mixer: dict[str, tuple[int, tuple[str, ...]]] = {
        "self_attention": (4 * wide * inner, ("hidden_size", "num_attention_heads", "head_dim")),
        "local_attention": (4 * wide * inner, ("hidden_size", "num_attention_heads", "head_dim")),
        "window": ((config.window_radius + 1) * wide**2, ("hidden_size", "window_radius")),
        "rnn": (4 * wide**2, ("hidden_size",)),
        "dense": (heads * places**2, ("num_attention_heads", "max_position_embeddings")),
    }
    of_position = {
        "learned": (places * wide, ("max_position_embeddings", "hidden_size")),
        "shaw": (2 * config.relative_max_distance * config.head_width, ("relative_max_distance", "hidden_size")),
        "t5": (config.relative_num_buckets * heads, ("relative_num_buckets", "num_attention_heads")),
    }
    parts: list[tuple[int, tuple[str, ...]]] = [(config.vocab_size * wide, ("vocab_size", "hidden_size"))]
    for side in ("encoder", "decoder") if config.is_encoder_decoder else ("decoder",):
        mixers = config.mixers_of(side)
        for mixer in mixers[:1] if config.share_layers else mixers:
            number, names = of_mixer[mixer]
            parts.append((number, (*names, f"{side}_layers")))
        thinking = 0 if config.feedforward == "none" else 2 * wide * config.intermediate_size
        depth = 1 if config.share_layers else len(mixers)
        parts.append((depth * thinking, ("hidden_size", "intermediate_size", f"{side}_layers")))
        parts += [of_position[name] for name in config.positions_of(side) if name in of_position]
    return parts


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, min(number, MOST_HEADS_NAMED) + 1) if number % n == 0)
