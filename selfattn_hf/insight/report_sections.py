"""What each section of a page knows of one model: the probes' answers, rounded, or one sentence why there is none."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from ..model import SelfAttnEncoderModel
from .attention_maps import alignment, attention_maps
from .connections import width_of
from .depth import rank_over_depth
from .lookup import lookup
from .masks import leak_test, mask_effect
from .order import shuffle_words
from .pairs import Pair, ids_of, pair_of
from .passes import layers_of, sides_of_model, stack_of
from .position_values import position_values
from .positions import encoder_config, fresh_model, names, words
from .reach import path_length, reach
from .report_numbers import one_line, rounded, shares
from .steps import sequential_steps, time_per_step
from .weights import mixing_weights

Data = dict[str, Any]
LONGEST = 64  # steps are counted for rows up to this
TIMED = (16, 32, 64, 128, 256)
SHUFFLES = 4
DIMENSIONS = 8  # numbers of a state that are differentiated
LOOKUP_BYTES = 700_000  # for the lookups of all sentences of all models; each has some of its first sentence anyway


def or_reason(make: Callable[..., Data], *given: Any) -> Data:
    """What a function of these arguments returns, or {"absent": one sentence}: why this model has no such thing."""
    try:
        return make(*given)
    except ValueError as error:
        sentence, _, _ = str(error).partition(". ")
        sentence = sentence[:1].upper() + sentence[1:].removesuffix(".")
        # A page counts layers from 1 on.
        sentence = re.sub(r"\b([Ll]ayer) (\d+)", lambda found: f"{found[1]} {int(found[2]) + 1}", sentence)
        return {"absent": f"{sentence}."}


def steps_of(model: Any, timed: bool = True) -> Data:
    """Steps one after the other for rows of 1 to `LONGEST` tokens, and the time of a gradient step, of each side."""
    return {side: or_reason(_steps, model, side, timed) for side in sides_of_model(model)}


def _steps(model: Any, side: str, timed: bool) -> Data:
    counts = [sequential_steps(model, length, side) for length in range(1, LONGEST + 1)]
    config = stack_of(model, side).config
    found = {
        "mixers": counts[0].mixers,
        "orders": counts[0].orders,
        "totals": [count.total for count in counts],
        "widths": width_of(config, side),
        "times": None,
    }
    if timed:
        known = config.known_places(side)
        lengths = [n for n in TIMED if known is None or n + config.position_shift <= known]
        found["times"] = or_reason(_times, model, lengths, side)
    return found


def _times(model: Any, lengths: Sequence[int], side: str) -> Data:
    return dict(rounded(time_per_step(model, lengths, repeats=3, side=side).to_dict()))


def reach_of(model: Any, pair: Pair) -> Data:
    """Reach and path length of each side."""
    found = {}
    for side in sides_of_model(model):
        dimensions = min(DIMENSIONS, model.config.hidden_size)
        reached, paths = reach(model, pair, side, dimensions), path_length(model, pair, side)
        found[side] = {
            "gradients": rounded(reached.gradients, 2),
            "theory": [[[int(cell) for cell in line] for line in layer] for layer in reached.theory],
            "widths": reached.widths,
            "agrees": reached.agrees,
            "dimensions": dimensions,
            "layers": paths.layers,
            "measured": paths.measured,
            "steps": paths.steps,
            "longest": paths.longest,
        }
    return found


def maps_of(model: Any, pair: Pair) -> Data:
    """All maps of a pair, and the alignment that each head and the mean of all show."""
    maps = attention_maps(model, pair)
    found: Data = {part: shares(getattr(maps, part)) for part in ("encoder", "decoder", "cross")}
    if any(maps.cross):
        mean = alignment(maps)
        found["alignment"] = {
            "weights": shares(mean.weights),
            "best": mean.best,
            "entropy": rounded(mean.entropy),
            "sharpness": rounded(mean.sharpness),
        }
    return found


def lookups_of(model: Any, pair: Pair) -> Data:
    """One lookup of each head of each layer of each part, [layer, head]; states once for each layer."""
    found: Data = {}
    for part in parts_of(model):
        side = "decoder" if part == "cross" else part
        found[part] = []
        for layer, (mixer, block, _) in enumerate(layers_of(stack_of(model, side))):
            sublayer = block.read.sublayer if part == "cross" else block.mix.sublayer
            found[part].append(or_reason(_layer, model, pair, part, layer, mixer, getattr(sublayer, "heads", 1)))
    return found


def _layer(model: Any, pair: Pair, part: str, layer: int, mixer: str, count: int) -> Data:
    heads = [lookup(model, pair, part, layer, head) for head in range(count)]
    first = heads[0]
    own = first.states == first.asked_states
    return {
        "mixer": mixer,
        "score": first.score,
        "scaling": rounded(first.scaling),
        "states": rounded(first.states, 2),
        "asked_states": None if own else rounded(first.asked_states, 2),
        "seen": [[int(cell) for cell in line] for line in first.seen],
        "heads": [
            {name: rounded(getattr(head, name)) for name in ("queries", "keys", "values", "products", "bias", "mixed")}
            | {"weights": shares(head.weights)}
            for head in heads
        ],
    }


def parts_of(model: Any) -> list[str]:
    """Of "encoder", "decoder" and "cross" those that a model has."""
    sides = sides_of_model(model)
    return [*sides, "cross"] if len(sides) == 2 else sides


def order_of(model: Any, pair: Pair) -> Data:
    """The words in a few other orders."""
    shuffled = [shuffle_words(model, pair, seed=seed) for seed in range(SHUFFLES)]
    return {
        "is_set": shuffled[0].is_set,
        "agrees": all(one.agrees for one in shuffled),
        "shuffles": [
            {
                "permutation": one.permutation,
                "shuffled_tokens": one.shuffled_tokens,
                "state_change": rounded(one.state_change),
                "mean_change": rounded(one.mean_change),
                "output_change": rounded(one.output_change),
                "other_choice": one.other_choice,
            }
            for one in shuffled
        ],
    }


def positions_of(model: Any, trained: int) -> Data:
    """What the model's own positions do, on each side."""
    return {side: _positions(model, side, trained) for side in sides_of_model(model)}


def _positions(model: Any, side: str, trained: int) -> Data:
    found = rounded(position_values(model, side, trained).to_dict())
    del found["distances"]  # from -(places - 1) on
    found["vectors"] = rounded(found["vectors"], 2)
    return dict(found)


def depth_of(model: Any, pair: Pair) -> Data:
    """Ranks over depth of each side."""
    return {side: rounded(rank_over_depth(model, pair, side).to_dict()["variants"]) for side in sides_of_model(model)}


def mask_of(model: Any, pair: Pair) -> Data:
    """Affinities before the mask, and what would be looked at without it, [layer, head] of a decoder; the leak test."""
    leak = leak_test(model, pair, min(DIMENSIONS, model.config.hidden_size))
    layers = [or_reason(_masked_layer, model, pair, *one) for one in _layers_with_heads(model, "decoder")]
    return {
        "future_mask": leak.future_mask,
        "gradients": rounded(leak.gradients, 2),
        "leaks": len(leak.leaks),
        "largest": rounded(leak.largest),
        "expected": leak.expected,
        "agrees": leak.agrees,
        "layers": layers,
    }


def _layers_with_heads(model: Any, side: str) -> list[tuple[int, int]]:
    """Each layer, and how many heads it has; one where it has none, which is then asked why."""
    layers = layers_of(stack_of(model, side))
    return [(layer, getattr(block.mix.sublayer, "heads", 1)) for layer, (_, block, _) in enumerate(layers)]


def _masked_layer(model: Any, pair: Pair, layer: int, count: int) -> Data:
    return {"heads": [_masked(mask_effect(model, pair, layer, head)) for head in range(count)]}


def _masked(effect: Any) -> Data:
    return {
        "affinities": rounded(effect.affinities),
        "weights_before": shares(effect.weights_before),
        "weights": shares(effect.weights),
        "future_weight": rounded(effect.future_weight),
    }


def weights_of_two(model: Any, first: Pair, second: Pair) -> Data:
    """How every head of an encoder (a decoder alone: of the decoder) mixes two sentences, beside a layer `dense`."""
    side = sides_of_model(model)[0]
    layers = [or_reason(_two_layers, model, first, second, side, *one) for one in _layers_with_heads(model, side)]
    tokens = [getattr(pair, "source_tokens" if side == "encoder" else "target_tokens") for pair in (first, second)]
    return {"side": side, "first_tokens": tokens[0], "second_tokens": tokens[1], "layers": layers,
            "dense": _fixed(model, *(ids_of(pair, side) for pair in (first, second)))}  # fmt: skip


def _two_layers(model: Any, first: Pair, second: Pair, side: str, layer: int, count: int) -> Data:
    return {"heads": [_two(mixing_weights(model, first, second, side, layer, head)) for head in range(count)]}


def _two(weights: Any) -> Data:
    return {
        "first": shares(weights.first),
        "second": shares(weights.second),
        "largest": rounded(weights.largest),
        "mean": rounded(weights.mean),
        "dynamic": weights.dynamic,
    }


def _fixed(model: Any, first: list[int], second: list[int]) -> Data:
    """The same two sentences through one fresh layer of `dense`: it shows what fixed weights are, trained or not."""
    config = model.config
    small = encoder_config("none", vocab_size=config.vocab_size, hidden_size=32, num_attention_heads=1,
                           encoder_mixer="dense", max_position_embeddings=max(len(first), 2))  # fmt: skip
    dense: SelfAttnEncoderModel = fresh_model(small)
    return _two(mixing_weights(dense, pair_of(dense, first), pair_of(dense, second)))


def registry_positions(trained: int = 12) -> Data:
    """What every encoding that there is does in a small fresh encoder: those of the registry, by name."""
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "relative_max_distance": 8, "relative_num_buckets": 8,
             "max_position_embeddings": 2 * trained - 6}  # fmt: skip
    every = encoder_config([name for name in names() if name != "none"], **sizes)
    return {
        name: _positions(fresh_model(every.with_switches(encoder_position_encoding=name)), "encoder", trained)
        for name in names()
    }


def mixer_steps(layers: int) -> Data:
    """Steps of a bidirectional stack of each mixer that there is, for rows of 1 to `LONGEST` tokens."""
    found = {}
    for mixer in words("encoder_mixer"):
        model = fresh_model(encoder_config("none", hidden_size=8, num_attention_heads=1, encoder_layers=layers,
                                           encoder_mixer=mixer, max_position_embeddings=8))  # fmt: skip
        counts = [sequential_steps(model, length) for length in range(1, LONGEST + 1)]
        found[mixer] = {"totals": [count.total for count in counts], "order": counts[0].orders[0]}
    return found


def within(found: list[Data], limit: int) -> list[Data | None]:
    """The first lookups, with fewer heads where even they are too much, and as many of the others as have room."""
    size = len(one_line(found[0]))
    if size > limit:
        return [_with_fewer_heads(found[0], limit / size), *[None] * (len(found) - 1)]
    kept: list[Data | None] = []
    used = 0
    for one in found:
        used += len(one_line(one))
        kept.append(one if used <= limit else None)
    return kept


def _with_fewer_heads(lookups: Data, share: float) -> Data:
    def fewer(layer: Data) -> Data:
        heads = layer.get("heads", [])
        return layer if not heads else layer | {"heads": heads[: max(1, int(len(heads) * share))]}

    return {part: [fewer(layer) for layer in layers] for part, layers in lookups.items()}
