"""The suitcase: everything that travels to the Hub beside the weights."""

from .configuration_selfattn import SelfAttnConfig
from .layers import make_cache
from .modeling_selfattn import SelfAttnForConditionalGeneration, SelfAttnModel

__all__ = ["SelfAttnConfig", "SelfAttnForConditionalGeneration", "SelfAttnModel", "make_cache"]
