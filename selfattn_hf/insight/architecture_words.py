"""The architecture of a config in words: names of its parts, a description, and what two configs differ in."""

import itertools
from typing import Any

from ..model import SelfAttnConfig

MIXERS = {
    "self_attention": "Self-attention",
    "local_attention": "Local attention",
    "window": "Word window",
    "rnn": "Recurrent",
    "dense": "Dense",
}
NORMS = {"layer_norm": "LayerNorm", "rms_norm": "RMSNorm"}
ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "swiglu": "SwiGLU", "geglu": "GEGLU"}
SCORES = {
    "scaled_dot": "q·k / √d",
    "dot": "x·s (Luong)",
    "general": "q·s (Luong)",
    "additive": "additive (Bahdanau)",
}
POSITIONS = {
    "sinusoidal": "Sinusoidal",
    "learned": "Learned table",
    "rope": "RoPE",
    "shaw": "Shaw",
    "t5": "T5 buckets",
    "alibi": "ALiBi",
    "transformer_xl": "Transformer-XL",
    "kerple": "KERPLE",
    "fire": "FIRE",
    "tree_depth": "Depth in the tree",
    "tree_path": "Path in the tree",
    "tree_relative": "Steps in the tree",
}
# What an encoding that does not join the embeddings acts on.
DOORS = {"rope": "turns queries and keys"} | dict.fromkeys(
    ("shaw", "t5", "alibi", "transformer_xl", "kerple", "fire", "tree_relative"), "added to the affinities"
)
JOINS = ("sinusoidal", "learned", "tree_depth", "tree_path")
ENCODER_HEADS = {
    "SelfAttnEncoderModel": "an encoder alone",
    "SelfAttnForSequenceClassification": "an encoder that labels texts",
    "SelfAttnForTokenClassification": "an encoder that labels words",
    "SelfAttnForQuestionAnswering": "an encoder that finds answers",
}
# A change of these is said in the words of the part that they belong to; all others by name.
_SIDES = ("encoder", "decoder")
_NAMES = {
    "vocab_size": "tokens in the vocabulary",
    "hidden_size": "width of a state",
    "num_attention_heads": "heads of every attention",
    "intermediate_size": "width of the feed-forward layer",
    "max_position_embeddings": "places that a table knows",
    "window_radius": "neighbours on each side",
    "encoder_layers": "layers of the encoder",
    "decoder_layers": "layers of the decoder",
    "rnn_type": "cell of the recurrent layers",
    "attention_score": "score of the cross-attention",
}
# Not of the architecture: training, decoding, bookkeeping.
_APART = {
    "dropout", "attention_dropout", "initializer_range", "position_shift", "use_cache", "pad_token_id", "bos_token_id",
    "eos_token_id", "decoder_start_token_id", "selfattn_version", "position_encoding", "encoder_position_encoding",
    "decoder_position_encoding", "encoder_mixer", "decoder_mixer", "feedforward", "norm", "residual", "future_mask",
    "is_encoder_decoder",
}  # fmt: skip


def sides_of(config: Any) -> tuple[str, ...]:
    """The stacks of a config: both, the decoder alone, or the encoder where the saved model has nothing else."""
    if (config.architectures or [""])[0] in ENCODER_HEADS:
        return ("encoder",)
    return _SIDES if config.is_encoder_decoder else ("decoder",)


def door_of(name: str, config: Any) -> str:
    """Where an encoding comes in: `input`, `block`, or `affinities`; one of a caller's own class at the mixer."""
    return str(config.position_injection) if name in JOINS else "affinities"


def title_of(config: Any) -> str:
    """What kind of model it is, in a few words."""
    sides = sides_of(config)
    mixers = list(dict.fromkeys(MIXERS[mixer].lower() for side in sides for mixer in config.mixers_of(side)))
    if len(sides) == 2:
        kind = "an encoder-decoder"
    elif sides == ("decoder",):
        kind = "a decoder alone"
    else:
        kind = ENCODER_HEADS[config.architectures[0]]
    return f"Architecture: {kind} with {' and '.join(mixers)}"


def describe(config: Any) -> str:
    """The picture in words, from below to above."""
    return " ".join(_describe_side(config, side) for side in sides_of(config))


def _describe_side(config: Any, side: str) -> str:
    """One stack: its input, its layers, its output."""
    reads = side == "decoder" and config.is_encoder_decoder
    mixers = config.mixers_of(side)
    kinds = [_mixer(config, side, mixer) for mixer in dict.fromkeys(mixers)]
    steps = " or ".join(kinds)
    if len(kinds) > 1:
        steps += f" (layer by layer: {', '.join(MIXERS[mixer].lower() for mixer in mixers)})"
    parts = [steps]
    if reads:
        parts.append(f"cross-attention to the encoder's states, score {SCORES[config.attention_score]}")
    parts.append(_think(config))
    about = _norm(config)
    again = "one layer applied" if config.share_layers else "layers, each"
    count = f"{len(mixers)} {again}" if not config.share_layers else f"{again} {len(mixers)} times"
    around = "each part added to its input" if config.residual else "no way around a part"
    order = _order(config, side)
    end = ""
    if side == "decoder" and (config.architectures or [""])[0] != "SelfAttnModel":
        end = " Linear and softmax on top" + (
            ", the embedding's table again." if config.tie_word_embeddings else ", with a table of its own."
        )
    start = f"{side.capitalize()}: embedding of {config.hidden_size} numbers; {order}; {count}: "
    return f"{start}{'; '.join(parts)}; {about}; {around}.{end}"


def changes(old: Any, new: Any) -> list[str]:
    """What differs between two configs' architectures, in plain words; empty where nothing does.

    What belongs to training or decoding alone (dropout, ids) is passed over, and so is what has no effect in either.

    Examples:
        >>> changes(SelfAttnConfig(feedforward="none"), SelfAttnConfig())
        ['feed-forward: a feed-forward layer (ReLU, 512 → 2048 → 512) in every layer (was: no feed-forward layer)']
    """
    said: list[str] = []
    kinds = [sides_of(config) for config in (old, new)]
    if kinds[0] != kinds[1]:
        said.append(_said("stacks", *(" and ".join(sides) for sides in kinds)))
    for side in [side for side in _SIDES if side in kinds[0] and side in kinds[1]]:
        mixers = [_mixers(config, side) for config in (old, new)]
        if mixers[0] != mixers[1]:
            said.append(_said(side, *mixers))
        orders = [_order(config, side) for config in (old, new)]
        if orders[0] != orders[1]:
            said.append(_said(f"order in the {side}", *orders))
    if _think(old) != _think(new):
        said.append(_said("feed-forward", _think(old), _think(new)))
    if old.norm != new.norm:
        said.append(_said("norm", *(_norm(config) for config in (old, new))))
    if old.residual != new.residual:
        ways = {True: "each part is added to its input", False: "no way around a part"}
        said.append(_said("residual", ways[old.residual], ways[new.residual]))
    for name in SelfAttnConfig.__dataclass_fields__:
        one, other = getattr(old, name, None), getattr(new, name, None)
        if name in _OWN and name not in _APART and one != other and not _is_said(name, old, new):
            said.append(_said(_NAMES.get(name, name.replace("_", " ")), _value(name, one), _value(name, other)))
    return said


_OWN = SelfAttnConfig.__annotations__


def _is_said(name: str, old: Any, new: Any) -> bool:
    """Whether a change of the field is in the words of a part already."""
    mixers = [{mixer for side in _SIDES for mixer in config.mixers_of(side)} for config in (old, new)]
    said = {
        "window_radius": not (mixers[0] & mixers[1] & {"window", "local_attention"}),
        "rnn_type": True,
        "position_injection": True,
        "position_combine": True,
        "intermediate_size": "none" in (old.feedforward, new.feedforward) or old.feedforward != new.feedforward,
        "norm_type": "none" in (old.norm, new.norm),
    }
    return said.get(name, False)


def _said(what: str, old: str, new: str) -> str:
    return f"{what}: {new} (was: {old})"


def _value(name: str, value: Any) -> str:
    words = {"attention_score": SCORES, "norm_type": NORMS}.get(name, {})
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(words.get(value, value)).replace("_", " ")


def _mixer(config: Any, side: str, mixer: str) -> str:
    """A mixer in words."""
    causal = side == "decoder" and config.future_mask
    radius = f"{config.window_radius} neighbours {'to the left' if causal else 'on each side'}"
    words = {
        "rnn": f"{config.rnn_type.upper()} that reads word by word, "
        + ("from left to right" if causal else "in both directions"),
        "window": f"word window of {radius}",
        "local_attention": f"attention to {radius}",
        "dense": "fully connected layer with fixed weights",
        "self_attention": "self-attention",
    }
    if side == "decoder" and not config.future_mask:
        return words[mixer] + " that sees the future (no mask)"
    return words[mixer] + (", future masked" if causal and mixer in ("self_attention", "dense") else "")


def _mixers(config: Any, side: str) -> str:
    """The mixers of a side in words: one, or from the first layer to the last how many of each."""
    runs = [(_mixer(config, side, mixer), len(list(same))) for mixer, same in itertools.groupby(config.mixers_of(side))]
    return runs[0][0] if len(runs) == 1 else "; then ".join(f"{count} × {words}" for words, count in runs)


def _order(config: Any, side: str) -> str:
    """The encodings of a side in words."""
    said = []
    for name in config.positions_of(side):
        how = "joined" if config.position_combine == "concat" else "added"
        where = "at the input" if config.position_injection == "input" else "in every block"
        said.append(
            f"{POSITIONS.get(name, name)} positions, "
            + (f"{how} {where}" if name in JOINS else DOORS.get(name, "by their own door").replace("turns", "turning"))
        )
    return " and ".join(said) or "no positions"


def _norm(config: Any) -> str:
    kind = NORMS[config.norm_type]
    where = {"pre": f"{kind} before every part and at the end", "post": f"{kind} after every part", "none": "no norm"}
    return where[config.norm]


def _think(config: Any) -> str:
    if config.feedforward == "none":
        return "no feed-forward layer"
    sizes = f"{config.hidden_size} → {config.intermediate_size} → {config.hidden_size}"
    return f"a feed-forward layer ({ACTIVATIONS[config.feedforward]}, {sizes}) in every layer"
