"""Chapter 8 of 8, its second part: word after word. Before: stacks.py. Next: causal_lm.py.

transformers' `generate` writes with every model that has a head over the vocabulary; here it learns what these
decoders remember.
"""

from typing import Any

from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import DynamicLayer

from .layers import DecoderCache, make_cache
from .pretrained import SelfAttnPreTrainedModel


class SelfAttnGenerator(SelfAttnPreTrainedModel):
    """What models that generate share; they inherit from transformers' `GenerationMixin` as well."""

    @staticmethod
    def create_masks_for_generate(*, attention_mask: Tensor | None, **kwargs: Any) -> Tensor | None:
        """Leave the mask as it is, [B, K], for static caches too: places are counted from it."""
        return attention_mask

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """Give generate() the cache that this model's mixers need, where the user gave none."""
        if not self.config.future_mask:
            generation_config.use_cache = model_kwargs["use_cache"] = False
        implementation = generation_config.cache_implementation
        own_choice = model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False
        if own_choice and implementation in (None, "dynamic"):
            model_kwargs["past_key_values"] = make_cache(self.config)
            if generation_config.is_assistant:
                model_kwargs["past_key_values"].activate_past_recording()
            return
        if own_choice and not all(type(layer) is DynamicLayer for layer in DecoderCache(self.config).layers):
            raise ValueError(
                f"cache_implementation={implementation!r} holds keys and values, and "
                f"decoder_mixer={self.config.decoder_mixer!r} remembers something else. Leave cache_implementation out."
            )
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)
