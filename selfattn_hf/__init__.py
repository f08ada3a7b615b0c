"""selfattn_hf: an encoder-decoder whose every building block is a switch.

Importing this package registers the model with transformers' Auto classes.
"""

from typing import TYPE_CHECKING, Any

import transformers

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
    "make_cache",
]

transformers.AutoConfig.register(SelfAttnConfig.model_type, SelfAttnConfig, exist_ok=True)
for _model in MODELS:
    getattr(transformers, _model._auto_class).register(SelfAttnConfig, _model, exist_ok=True)


def __getattr__(name: str) -> Any:
    """`Translator` comes with the libraries for data, which a model alone does not need."""
    if name == "Translator":
        from .inference import Translator

        return Translator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
