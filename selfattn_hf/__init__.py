"""selfattn_hf: an encoder-decoder whose every building block is a switch.

Importing this package registers the model with transformers' Auto classes, and offers it decoding by compiled code.
"""

from typing import TYPE_CHECKING, Any

import transformers

from .inference.compiled import offer
from .model import (
    MODELS,
    SelfAttnConfig,
    SelfAttnEncoderModel,
    SelfAttnForCausalLM,
    SelfAttnForConditionalGeneration,
    SelfAttnForQuestionAnswering,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
    SelfAttnModel,
    make_cache,
)
from .model.configuration_selfattn import VERSION as __version__

if TYPE_CHECKING:
    from .conversion import convert
    from .inference import Translator

__all__ = [
    "SelfAttnConfig",
    "SelfAttnEncoderModel",
    "SelfAttnForCausalLM",
    "SelfAttnForConditionalGeneration",
    "SelfAttnForQuestionAnswering",
    "SelfAttnForSequenceClassification",
    "SelfAttnForTokenClassification",
    "SelfAttnModel",
    "Translator",
    "__version__",
    "convert",
    "make_cache",
]

transformers.AutoConfig.register(SelfAttnConfig.model_type, SelfAttnConfig, exist_ok=True)
for _model in MODELS:
    getattr(transformers, _model._auto_class).register(SelfAttnConfig, _model, exist_ok=True)
offer()


def __getattr__(name: str) -> Any:
    """`Translator` and `convert` come when they are asked for: a model alone does not need what they bring along."""
    if name == "Translator":
        from .inference import Translator

        return Translator
    if name == "convert":
        from .conversion import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
