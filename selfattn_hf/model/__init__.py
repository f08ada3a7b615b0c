"""The suitcase: everything that travels to the Hub beside the weights."""

from .causal_lm import SelfAttnForCausalLM
from .configuration_selfattn import SelfAttnConfig
from .contracts import Places, PositionalEncoding
from .decoding import DecodingState
from .encoder_heads import (
    SelfAttnEncoderModel,
    SelfAttnForQuestionAnswering,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
)
from .fields import near
from .layers import make_cache
from .modeling_selfattn import MODELS, SelfAttnForConditionalGeneration, SelfAttnModel
from .positions import join_position
from .products import Int8Linear
from .trees import Tree

__all__ = [
    "MODELS",
    "DecodingState",
    "Int8Linear",
    "Places",
    "PositionalEncoding",
    "SelfAttnConfig",
    "SelfAttnEncoderModel",
    "SelfAttnForCausalLM",
    "SelfAttnForConditionalGeneration",
    "SelfAttnForQuestionAnswering",
    "SelfAttnForSequenceClassification",
    "SelfAttnForTokenClassification",
    "SelfAttnModel",
    "Tree",
    "join_position",
    "make_cache",
    "near",
]
