"""Equal parameters: sizes a family of configs so that none of them wins by being larger.

Parameters are counted, not computed: every candidate is built on the meta device, where tensors have shapes and no
memory, and the widths are bisected on the counts, which grow with them.
"""

import bisect
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from transformers.initialization import no_init_weights

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

# How far sizes may go: intermediate_size as a multiple of hidden_size, hidden_size as a multiple of what it was.
INTERMEDIATE_RANGE = (0.5, 8)
HIDDEN_RANGE = (0.25, 4)
SIZES = ("hidden_size", "intermediate_size", "head_width")


@dataclass(frozen=True)
class Matched:
    """A config of a family with its new sizes.

    Attributes:
        config: the config with the sizes that were found; all else is as it was.
        before: parameters of the config as it was given.
        after: parameters of `config`.
        target: parameters that were asked for.
        changed: what changed, as name -> (before, after): hidden_size, intermediate_size, and head_width, which
            follows hidden_size unless head_dim is set.
    """

    config: SelfAttnConfig
    before: int
    after: int
    target: int
    changed: dict[str, tuple[int, int]]

    @property
    def difference(self) -> float:
        """How far `after` is from `target`, as a share of it; negative: below."""
        return (self.after - self.target) / self.target


def count_parameters(config: SelfAttnConfig) -> int:
    """Numbers that training changes in a `SelfAttnForConditionalGeneration`; a tied table counts once. No memory."""
    with torch.device("meta"), no_init_weights():
        model = SelfAttnForConditionalGeneration(config)
    model.tie_weights()  # which is left out with the drawing of numbers
    return sum(weight.numel() for weight in model.parameters())


def match_parameters(
    configs: Mapping[str, SelfAttnConfig], *, tolerance: float = 0.02, reference: str | int | None = None
) -> dict[str, Matched]:
    """Size every config so that its parameters differ from the reference's by less than `tolerance`.

    A config that is near enough stays as it is. Else `intermediate_size` alone is changed, from a half to 8 times
    `hidden_size` (or its own value, where that is beyond). Where this does not reach, `hidden_size` is changed, from a
    quarter to 4 times its value, in the smallest steps that the config allows (one for each head, two where something
    needs pairs), and the feed-forward in proportion; then `intermediate_size` is tuned. The number of heads stays.
    `vocab_size` and `max_position_embeddings` count and stay: give all members the same ones.

    Args:
        configs: name -> config.
        tolerance: largest share of the reference by which a count may differ, exclusive.
        reference: name of the config that stays, or a number of parameters; None: the first config.

    Raises:
        ValueError: for a tolerance or reference that means nothing, and for a config that cannot come near enough,
            with the nearest count.

    Examples:
        >>> match_parameters({"lstm": SelfAttnConfig(encoder_mixer="rnn"), "transformer": SelfAttnConfig()})
    """
    if not configs:
        raise ValueError("a family of configs is needed to match their parameters, got none. Name two or more.")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is a share above 0 and below 1, such as 0.02 for 2 %, got {tolerance}.")
    reference = next(iter(configs)) if reference is None else reference
    if isinstance(reference, str) and reference not in configs:
        raise ValueError(f"the reference is one of the family, got {reference!r}. Choose one of: {', '.join(configs)}.")
    target = count_parameters(configs[reference]) if isinstance(reference, str) else reference
    if target < 1:
        raise ValueError(f"the number of parameters to match starts at 1, got {target}.")
    return {name: _match(name, config, target, tolerance) for name, config in configs.items()}


def _match(name: str, config: SelfAttnConfig, target: int, tolerance: float) -> Matched:
    """The first candidate that is near enough."""
    before, tried = count_parameters(config), list[Matched]()
    for candidate in _candidates(config, target):
        pairs = {size: (getattr(config, size), getattr(candidate, size)) for size in SIZES}
        changed = {size: pair for size, pair in pairs.items() if pair[0] != pair[1]}
        tried.append(Matched(candidate, before, count_parameters(candidate), target, changed))
        if abs(tried[-1].difference) < tolerance:
            return tried[-1]
    nearest, widths = min(tried, key=lambda one: abs(one.difference)), _widths(config)
    steps = f"from {widths[0]} to {widths[-1]} in steps of {widths.step}" if len(widths) > 1 else "nothing else"
    sizes, inner = f"hidden_size={nearest.config.hidden_size}", "feedforward='none' has no size"
    if config.feedforward != "none":
        sizes += f" and intermediate_size={nearest.config.intermediate_size}"
        inner = "intermediate_size a half to 8 times it"
    raise ValueError(
        f"{name} cannot come within {tolerance:.2%} of {target:,} parameters: the nearest is {nearest.after:,} "
        f"({nearest.difference:+.2%}), with {sizes}. Beside its other settings hidden_size may be {steps}, and "
        f"{inner}. Allow a larger tolerance, or choose another reference or number of parameters."
    )


def _candidates(config: SelfAttnConfig, target: int) -> Iterator[SelfAttnConfig]:
    """The config itself, then with another intermediate_size, then with another hidden_size: small changes first."""
    yield config
    yield from _tuned(config, target)
    shape = 0 if config.feedforward == "none" else config.intermediate_size / config.hidden_size

    def resized(width: int) -> SelfAttnConfig:
        return _with(config, hidden_size=width, intermediate_size=round(shape * width) or config.intermediate_size)

    for candidate in _around(_widths(config), target, resized):
        yield from _tuned(candidate, target)


def _tuned(config: SelfAttnConfig, target: int) -> list[SelfAttnConfig]:
    """The config with the intermediate_size that brings it nearest to the target; as it is where it has none."""
    if config.feedforward == "none":
        return [config]
    least, most = (int(factor * config.hidden_size) for factor in INTERMEDIATE_RANGE)
    sizes = range(max(1, min(least, config.intermediate_size)), max(most, config.intermediate_size) + 1)
    return _around(sizes, target, lambda size: _with(config, intermediate_size=size))[:1]


def _widths(config: SelfAttnConfig) -> range:
    """The values of hidden_size that the config may take, its own among them."""
    width, heads = config.hidden_size, config.num_attention_heads
    # Every rule of a width is that something divides it: what may be added once, may be added and taken off again.
    steps = (step for step in range(heads, width + 1, heads) if _is_legal(config, width + step))
    step = next(steps, None)
    if step is None:
        return range(width, width + 1)
    below = int(width * (1 - HIDDEN_RANGE[0])) // step
    return range(width - below * step, int(width * HIDDEN_RANGE[1]) + 1, step)


def _around(sizes: range, target: int, build: Callable[[int], SelfAttnConfig]) -> list[SelfAttnConfig]:
    """What is built from the sizes on either side of the target, the nearer one first."""
    count = functools.cache(lambda size: count_parameters(build(size)))
    above = bisect.bisect_left(sizes, target, key=count)
    neighbours = sorted(sizes[max(above - 1, 0) : above + 1], key=lambda size: abs(count(size) - target))
    return [build(size) for size in neighbours]


def _is_legal(config: SelfAttnConfig, width: int) -> bool:
    try:
        return _with(config, hidden_size=width).hidden_size == width
    except ValueError:
        return False


def _with(config: SelfAttnConfig, **sizes: int) -> SelfAttnConfig:
    resized: SelfAttnConfig = SelfAttnConfig.from_dict(config.to_dict(), **sizes)
    return resized
