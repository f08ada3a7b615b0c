"""What theory says of the cells of a study, beside what was measured: sequential steps and reach of their encoders."""

from collections.abc import Mapping
from typing import Any

import torch

from ..model import SelfAttnConfig, SelfAttnForConditionalGeneration
from .connections import width_of
from .steps import sequential_steps

LENGTH = 20  # of the row that steps are counted for: about a sentence


def theory_columns(configs: Mapping[str, SelfAttnConfig], length: int = LENGTH) -> dict[str, dict[str, Any]]:
    """Columns for a study's table: title -> cell -> value. Models have shapes alone, nothing is computed.

    Args:
        configs: of every cell.
        length: T, the words of the row that steps are counted for.

    Examples:
        >>> theory_columns({"rnn": SelfAttnConfig(encoder_mixer="rnn", position_encoding="none", encoder_layers=2)})
        {'steps, T=20': {'rnn': 40}, 'reach': {'rnn': 'all'}}
    """
    steps, reach = {}, {}
    for cell, config in configs.items():
        with torch.device("meta"):
            model = SelfAttnForConditionalGeneration(config)
        steps[cell] = sequential_steps(model, length).total
        width = width_of(config, "encoder")[-1]
        reach[cell] = "all" if width is None else width
    return {f"steps, T={length}": steps, "reach": reach}
