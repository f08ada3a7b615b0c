"""Chapter 0 of 8, continued: what is legal, and what goes together. Before: sizes.py. Next: configuration_selfattn.py.

A switch that would do nothing is refused, in one sentence that names the field, the rule, what was given and what to
do. A new part is one word in one of the groups below.
"""

from typing import Any, Literal, get_args

from .fields import refuse_unless

# Mixers that compare tokens with each other and so have affinities that a position can act on; then all mixers.
AffinityMixer = Literal["self_attention", "local_attention"]
Mixer = Literal[AffinityMixer, "dense", "window", "rnn"]

# Encodings that act on embeddings, encodings that act on affinities; then all of them.
EmbeddingPosition = Literal["sinusoidal", "learned", "tree_depth", "tree_path"]
AffinityPosition = Literal["rope", "shaw", "t5", "alibi", "transformer_xl", "kerple", "fire", "tree_relative"]
Position = Literal["none", EmbeddingPosition, AffinityPosition]
# Encodings that read a tree over the source's tokens instead of their places.
TreePosition = Literal["tree_depth", "tree_path", "tree_relative"]

# Which encodings a field of the config is for; beside any other the field would do nothing.
SHIFTED = ("sinusoidal", "learned")
WITH_WAVES = ("sinusoidal", "tree_depth", "tree_path")
WITH_FURTHEST = ("shaw", "t5", "fire", "tree_relative")


def check_switches(config: Any) -> None:
    """Check that every switch does something and that all of them fit together.

    Raises:
        ValueError: naming the field, the rule, what was given and what to do.
    """
    sides = sides_of(config)
    for side in sides:
        _check_lists(config, side)
        _check_side(config, side)
    _check_positions(config, {position for side in sides for position in config.positions_of(side)})
    has = "; ".join(f"the {side} has {_words(config.mixers_of(side), config.positions_of(side))}" for side in sides)
    for name, where in idle_fields(config).items():
        given = getattr(config, name)
        refuse_unless(
            given == type(config).__dataclass_fields__[name].default,
            f"{name}={given!r} would do nothing: it needs {where}, and {has}. Leave {name} out, or choose {where}",
        )
    refuse_unless(
        config.future_mask or not config.use_cache,
        "use_cache needs future_mask: what a token that sees the future computed is wrong one step later. "
        "Set use_cache to false",
    )


def _check_lists(config: Any, side: str) -> None:
    """A list of mixers has one for each layer; a list of encodings has several different ones."""
    mixers, depth = getattr(config, f"{side}_mixer"), getattr(config, f"{side}_layers")
    if isinstance(mixers, list):
        refuse_unless(
            len(mixers) == depth,
            f"a list of mixers names one for each layer, and {side}_layers={depth}, got {side}_mixer={mixers}. Name "
            f"{depth}, or one word for all layers",
        )
        refuse_unless(
            not config.share_layers,
            f"share_layers=True applies one layer again and again, so {side}_mixer is one word, got {mixers}",
        )
    for name in (f"{side}_position_encoding", "position_encoding"):
        positions = getattr(config, name)
        if isinstance(positions, list):
            refuse_unless(
                len(positions) == len(set(positions)) > 0 and ("none" not in positions or len(positions) == 1),
                f"a list of encodings names different ones, and none stands alone, got {name}={positions}",
            )


def _check_side(config: Any, side: str) -> None:
    mixers = list(dict.fromkeys(config.mixers_of(side)))
    shown = mixers[0] if len(mixers) == 1 else mixers
    for position in config.positions_of(side):
        refuse_unless(
            side == "encoder" or position not in get_args(TreePosition),
            f"{side}_position_encoding={position!r} reads the tree of a whole sentence, and a decoder writes word by "
            f"word. Set decoder_position_encoding to one without tree_",
        )
        refuse_unless(
            position not in get_args(AffinityPosition) or bool(set(mixers) & set(get_args(AffinityMixer))),
            f"{side}_position_encoding={position!r} acts on the affinities of an attention, and "
            f"{side}_mixer={shown!r} has none. Set {side}_position_encoding to one of: "
            f"none, {', '.join(_legal_without_affinities(side))}; or {side}_mixer to one of: "
            f"{', '.join(get_args(AffinityMixer))}",
        )
    refuse_unless(
        "rnn" not in mixers or not (side == "encoder" or not config.future_mask) or config.hidden_size % 2 == 0,
        f"hidden_size must be even where {side}_mixer='rnn' reads in both directions, got {config.hidden_size}",
    )


def _check_positions(config: Any, positions: set[str]) -> None:
    heads, width = config.num_attention_heads, config.head_width
    refuse_unless(
        "rope" not in positions or width % 2 == 0,
        "position_encoding='rope' turns pairs of dimensions, so the width of a head must be even, "
        f"got {width} (hidden_size={config.hidden_size}, num_attention_heads={heads}, head_dim={config.head_dim})",
    )
    for name in sorted(positions & {*WITH_WAVES, "transformer_xl"}):
        refuse_unless(
            config.hidden_size % 2 == 0,
            f"position_encoding={name!r} has a sine and a cosine per wave, so hidden_size must be even, "
            f"got {config.hidden_size}",
        )
    refuse_unless(
        "t5" not in positions or config.relative_max_distance > config.relative_num_buckets // 2,
        "relative_max_distance must be above relative_num_buckets / 2 for position_encoding='t5', "
        f"got {config.relative_max_distance} and {config.relative_num_buckets}",
    )
    refuse_unless(
        "t5" not in positions or config.relative_num_buckets % 4 == 0,
        "relative_num_buckets must be a multiple of 4 for position_encoding='t5' (two directions, near and far), "
        f"got {config.relative_num_buckets}",
    )
    refuse_unless(
        config.attention_score not in ("dot", "general") or heads * width == config.hidden_size,
        f"attention_score={config.attention_score!r} compares with the encoder's states as they are, so "
        f"num_attention_heads * head_dim must be hidden_size={config.hidden_size}, got {heads} * {width}",
    )


def idle_fields(config: Any) -> dict[str, str]:
    """Fields that do nothing beside the others, each with what it would need."""
    sides = sides_of(config)
    mixers = {mixer for side in sides for mixer in config.mixers_of(side)}
    positions = {position for side in sides for position in config.positions_of(side)}
    on_embeddings = bool(positions & set(get_args(EmbeddingPosition)))
    above_the_first = {mixer for side in sides for mixer in config.mixers_of(side)[1:]}
    own = [getattr(config, f"{side}_position_encoding") for side in sides]
    has_encoder = "encoder" in sides
    has_norm = config.norm != "none" or config.embedding_norm
    needs = (
        ("encoder_mixer", has_encoder, "an encoder"),
        ("encoder_position_encoding", has_encoder, "an encoder"),
        ("attention_score", has_encoder, "an encoder to read"),
        ("rnn_type", "rnn" in mixers, "an 'rnn' mixer"),
        ("window_radius", bool(mixers & {"window", "local_attention"}), "a 'window' or 'local_attention' mixer"),
        ("attend_to", bool(above_the_first & set(get_args(AffinityMixer))), "self-attention above the first layer"),
        ("share_layers", any(len(config.mixers_of(side)) > 1 for side in sides), "two layers or more on a side"),
        ("position_encoding", None in own, "a side without an encoding of its own"),
        ("position_combine", on_embeddings, "an encoding that acts on embeddings"),
        ("position_injection", on_embeddings, "an encoding that acts on embeddings"),
        ("position_shift", bool(positions & set(SHIFTED)), f"position_encoding {_or(SHIFTED)}"),
        ("sinusoid_layout", bool(positions & set(WITH_WAVES)), f"position_encoding {_or(WITH_WAVES)}"),
        ("relative_max_distance", bool(positions & set(WITH_FURTHEST)), f"position_encoding {_or(WITH_FURTHEST)}"),
        ("relative_num_buckets", "t5" in positions, "position_encoding 't5'"),
        ("rope_theta", "rope" in positions, "position_encoding 'rope'"),
        ("norm_type", has_norm, "a norm"),
        ("norm_eps", has_norm, "a norm"),
    )
    return {name: where for name, has_effect, where in needs if not has_effect}


def sides_of(config: Any) -> tuple[str, ...]:
    """The stacks that a model of this config has."""
    return ("encoder", "decoder") if config.is_encoder_decoder else ("decoder",)


def _legal_without_affinities(side: str) -> list[str]:
    trees = get_args(TreePosition)
    return [name for name in get_args(EmbeddingPosition) if side == "encoder" or name not in trees]


def _words(mixers: list[str], positions: list[str]) -> str:
    return f"{', '.join(dict.fromkeys(mixers))} with position_encoding {', '.join(positions) or 'none'}"


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names)
