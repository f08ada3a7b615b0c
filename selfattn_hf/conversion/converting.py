"""A pretrained encoder-decoder of transformers -> a model of this architecture that computes the same."""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

from .bart import BART, MARIAN, MBART, PEGASUS
from .family import Family
from .report import ConversionReport, counted
from .t5 import T5

logger = logging.getLogger(__name__)

# The `model_type` of a source's config -> how it is told here. mBART-50 is an mBART, T5 1.1 a T5.
FAMILIES: dict[str, Family] = {
    "bart": BART,
    "mbart": MBART,
    "pegasus": PEGASUS,
    "marian": MARIAN,
    "t5": T5,
    "mt5": T5,
}
SHARED = "model.shared.weight"
SOURCE_TABLE = "model.encoder.embed_tokens.weight"
TABLES = (SOURCE_TABLE, "model.decoder.embed_tokens.weight", "lm_head.weight")
OUTPUT_BIAS = "lm_head.bias"


@overload
def convert(
    folder_or_id: str | Path, *, revision: str | None = None, return_report: Literal[False] = False, **switches: Any
) -> SelfAttnForConditionalGeneration: ...


@overload
def convert(
    folder_or_id: str | Path, *, revision: str | None = None, return_report: Literal[True], **switches: Any
) -> tuple[SelfAttnForConditionalGeneration, ConversionReport]: ...


def convert(
    folder_or_id: str | Path, *, revision: str | None = None, return_report: bool = False, **switches: Any
) -> SelfAttnForConditionalGeneration | tuple[SelfAttnForConditionalGeneration, ConversionReport]:
    """A pretrained BART, mBART, Pegasus, Marian, T5 or mT5 as a model of this architecture.

    Logits, greedy search and beam search are those of the source; so is the number format, the widest one where it has
    several. The source's generation config comes with it. Padding on the left is outside of this for BART and those
    like it: they count it as places, and here only real tokens are counted, so that padding never matters.

    Any switch can be set to something else. What still fits is taken, the rest is drawn anew, and a warning lists it
    where no report is asked for.

    Args:
        folder_or_id: what transformers reads: a folder or the name of a model on the Hub.
        revision: commit, tag or branch on the Hub.
        return_report: return what was taken and what not as well.
        **switches: fields of `SelfAttnConfig` that are to differ from the source's.

    Returns:
        The model in evaluation mode, and with `return_report` a `ConversionReport`.

    Raises:
        ValueError: for an architecture or a setting that has no counterpart here, for a checkpoint that is not whole or
            holds more than its architecture has, and for switches that do not fit together.
        OSError: where there is no model.

    Examples:
        >>> model = convert("facebook/bart-base")
        >>> with_rope = convert("facebook/bart-base", position_encoding="rope")
    """
    theirs, family, fields = load_source(folder_or_id, revision)
    weights, names = translate(theirs, family)
    if fields["decoder_start_token_id"] is None:
        fields["decoder_start_token_id"] = theirs.generation_config.decoder_start_token_id
    own = SelfAttnConfig(
        **fields,
        tie_word_embeddings=all(torch.equal(weights[SOURCE_TABLE], weights[name]) for name in TABLES),
        output_bias=OUTPUT_BIAS in weights,
    )
    check_complete(own, weights, names)
    config = own.with_switches(**switches)

    model = SelfAttnForConditionalGeneration(config).to(weights[SOURCE_TABLE].dtype).eval()
    fresh, dropped = take(model, {name: (place_of(name, own, config), weight) for name, weight in weights.items()})
    model.generation_config = copy.deepcopy(theirs.generation_config)
    report = ConversionReport(
        source=str(folder_or_id),
        model_type=theirs.config.model_type,
        switched={
            name: (getattr(own, name), getattr(config, name))
            for name in switches
            if getattr(own, name) != getattr(config, name)
        },
        fresh=tuple(fresh),
        dropped=tuple(names[name] for name in dropped),
        training_only=family.left_out(theirs.config),
    )
    if return_report:
        return model, report
    if not report.is_equal:
        logger.warning(str(report))
    return model


def load_source(folder_or_id: str | Path, revision: str | None) -> tuple[PreTrainedModel, Family, dict[str, Any]]:
    """The source as transformers reads it, whole and in its own number format; its family; fields for its config here.

    What its config refuses is refused before the weights are read.

    Raises:
        ValueError: for an architecture or a setting without a counterpart, for weights that are missing, left over or
            quantised.
        OSError: where there is no model.
    """
    folder = Path(folder_or_id)
    is_local = folder.is_dir() or str(folder_or_id).startswith((".", "/", "~"))
    if is_local and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"there is no model in {folder}: it must hold config.json. Name the right folder.")
    config = AutoConfig.from_pretrained(folder_or_id, revision=revision, trust_remote_code=False)
    if config.model_type not in FAMILIES:
        hint = " It is one of ours already." if config.model_type == SelfAttnConfig.model_type else ""
        raise ValueError(
            f"{folder_or_id} has model_type={config.model_type!r}, and these can be converted: {', '.join(FAMILIES)}."
            f"{hint}"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"{folder_or_id} has quantization_config={config.quantization_config}, and only plain weights can be "
            "converted. Convert the model it was made from, and quantise the result."
        )
    family = FAMILIES[config.model_type]
    fields = family.config_fields(config)
    with errors_only():
        model, found = AutoModelForSeq2SeqLM.from_pretrained(
            folder_or_id, revision=revision, config=config, output_loading_info=True
        )
    for kind, what in (("missing_keys", "lacks"), ("unexpected_keys", "holds more than its architecture has:")):
        if found[kind]:
            raise ValueError(
                f"{folder_or_id} {what} {counted(sorted(found[kind]))}. A checkpoint is converted as a whole or not at "
                f"all; name one of a {type(model).__name__}."
            )
    return model, family, fields


@contextmanager
def errors_only() -> Iterator[None]:
    """Keep transformers from warning about what is checked here, such as a head that is not tied, which is legal."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def translate(theirs: PreTrainedModel, family: Family) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The source's weights by their names here, all in one number format, and the names there of all of them."""
    weights, names = {}, {}
    there = theirs.state_dict()
    # transformers keeps a part of a T5 in float32 where the rest is float16, which would overflow.
    widest = reduce(torch.promote_types, {weight.dtype for weight in there.values()})
    for name, weight in there.items():
        ours = family.name(name)
        changed = family.change(ours, weight.to(widest), theirs.config)
        if changed is not None:
            weights[ours], names[ours] = changed, name
    # A bias of zeros is none: the models that were trained without have it all the same.
    if OUTPUT_BIAS in weights and not weights[OUTPUT_BIAS].any():
        del weights[OUTPUT_BIAS]
    # The shared table is the encoder's under another name; a table that no stack reads is left over.
    if not torch.equal(weights.pop(SHARED, weights[SOURCE_TABLE]), weights[SOURCE_TABLE]):
        raise ValueError(
            f"{names[SHARED]} and {names[SOURCE_TABLE]} differ, and the architecture reads only the second. Remove the "
            "first from the checkpoint, or make it the same."
        )
    return weights, names


def place_of(name: str, own: SelfAttnConfig, config: SelfAttnConfig) -> str:
    """The name in a model of `config` of a weight of a model of `own`; one without a place there keeps its name."""
    for side in ("encoder", "decoder"):
        before, after = own.positions_of(side), config.positions_of(side)
        if before != after and name.startswith(prefix := f"model.{side}.position."):
            # One encoding among several is part i. One that is gone must not be taken for what stands there now.
            part = f"parts.{after.index(before[0])}" if before[0] in after else before[0]
            return name.replace(prefix, f"{prefix}{part}.")
    return name


def check_complete(config: SelfAttnConfig, weights: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Refuse weights that are left over, and weights here that nothing fills.

    Raises:
        ValueError: naming them.
    """
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in SelfAttnForConditionalGeneration(config).state_dict().items()}
    wanted.pop(SHARED, None)  # filled under the stacks' names
    there = {name: tensor.shape for name, tensor in weights.items()}
    left = [f"{names[name]} {tuple(shape)}" for name, shape in there.items() if wanted.get(name) != shape]
    empty = [f"{name} {tuple(shape)}" for name, shape in wanted.items() if there.get(name) != shape]
    if left or empty:
        raise ValueError(
            f"the checkpoint does not have the weights of its architecture: {counted(left)} would be left over, and "
            f"{counted(empty)} would stay empty here."
        )


@torch.no_grad()
def take(
    model: SelfAttnForConditionalGeneration, weights: Mapping[str, tuple[str, Tensor]]
) -> tuple[list[str], list[str]]:
    """Copy what fits, and name what is fresh here and what was not taken.

    Args:
        model: takes them.
        weights: by a name of their own: name in the model, and values. Of several for one tied table the first counts.
    """
    here = model.state_dict(keep_vars=True)  # tied weights are one object under several names
    taken: dict[int, Tensor] = {}
    dropped = []
    for name, (place, weight) in weights.items():
        ours = here.get(place)
        if ours is None or ours.shape != weight.shape or not torch.equal(taken.get(id(ours), weight), weight):
            dropped.append(name)
        elif id(ours) not in taken:
            taken[id(ours)] = weight
            ours.copy_(weight)
    fresh: dict[int, str] = {}
    for name, ours in here.items():
        if id(ours) not in taken:
            fresh.setdefault(id(ours), name)
    return list(fresh.values()), dropped
