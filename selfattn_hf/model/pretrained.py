"""Chapter 7 of 8, continued: what all models share. Before: folders.py. Next: stacks.py.

Fresh weights, loading and saving, tables of embeddings, and what transformers wants to know of a model.
"""

from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration_selfattn import SelfAttnConfig
from .contracts import PositionalEncoding
from .folders import check_files, check_fit, check_generation_file, read_heads
from .positions import POSITIONS
from .switches import sides_of


class Recorded(TypedDict, total=False):
    """Keywords of every model's `forward`: what it records on the way, all of it or the layers named."""

    output_hidden_states: bool | list[int]
    output_attentions: bool | list[int]


class RecordedWithLoss(Recorded, total=False):
    """Keywords of a model with a loss over tokens; see `sequence_loss`."""

    num_items_in_batch: int | Tensor
    label_smoothing: float


class RecordedWithLogits(RecordedWithLoss, total=False):
    """Keywords of a model with a head over the vocabulary; see `logits_and_loss`."""

    loss_only: bool


def kept_places(logits_to_keep: int | Tensor) -> slice | Tensor:
    """Where logits are computed: the last places, so many of them, or the places named; 0: everywhere."""
    if isinstance(logits_to_keep, Tensor):
        return logits_to_keep
    if logits_to_keep < 0:
        raise ValueError(f"logits_to_keep is a number of places from 0 on, got {logits_to_keep}. 0 keeps all.")
    return slice(-logits_to_keep, None)


def take_loss_keywords(kwargs: Any, *more: str) -> dict[str, Any]:
    """Take what goes to the loss, and what is named beside it, out of the keywords of a `forward`."""
    return {name: kwargs.pop(name) for name in ("num_items_in_batch", "label_smoothing", *more) if name in kwargs}


class SelfAttnPreTrainedModel(PreTrainedModel):
    """What all classes share: initialisation, saving, and what transformers wants to know."""

    config: SelfAttnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _auto_class = "AutoModel"
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]
    # Handed to every layer as they are: where weights wait on a disk, hooks must not move them a second time.
    _skip_keys_device_placement = ["past_key_values", "cache", "position"]
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: SelfAttnConfig, *args: Any, **kwargs: Any) -> None:
        # A config is checked when it is built; what was set on the object since then is checked here.
        config.validate_sizes()
        config.validate_switches()
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers', from safetensors alone, and only where every weight of the base model is there and fits.

        A head may be new on a model that was saved without it; transformers warns that it is to be trained.

        Raises:
            WeightsError: for weights of another model or format, before memory is taken for them; a ValueError.
            ValueError: for a saved way of writing that cannot be read.
            OSError: where there are no weights.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError(
                "weights are read from safetensors alone, and a pickle may run code, got "
                f"use_safetensors={kwargs['use_safetensors']}. Leave it out."
            )
        if kwargs.get("key_mapping"):
            raise ValueError("key_mapping renames weights, and these models know no other names. Leave it out.")
        name = pretrained_model_name_or_path
        if name is not None and (folder := Path(name) / kwargs.get("subfolder", "")).is_dir():
            check_files(folder, kwargs.get("variant"), kwargs.get("config"))
            if cls.can_generate() and kwargs.get("generation_config") is None:
                check_generation_file(folder)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @staticmethod
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, *more: Any, **named: Any
    ) -> Any:
        """The last step before memory is taken: transformers has found the files, and the model has shapes alone.

        An adapter, for which transformers names the keys that it expects, is a part and not a whole.
        """
        is_whole = state_dict is None and named.get("expected_keys") is None
        if is_whole and not load_config.is_quantized:
            where = str(load_config.pretrained_model_name_or_path)
            check_fit(model, read_heads(checkpoint_files), where, load_config.ignore_mismatched_sizes)
        return PreTrainedModel._load_pretrained_model(model, state_dict, checkpoint_files, load_config, *more, **named)

    @property
    def _mixers(self) -> set[str]:
        return {name for side in sides_of(self.config) for name in self.config.mixers_of(side)}

    @property
    def _supports_flex_attn(self) -> bool:
        """Flex attention makes blocks of its own, and those of local attention are no rows to it."""
        return "local_attention" not in self._mixers

    @property
    def _supports_flash_attn(self) -> bool:
        """Flash attention has no door for a bias, and would lose it without a word."""
        closed = PositionalEncoding.bias
        positions = [POSITIONS[name] for side in sides_of(self.config) for name in self.config.positions_of(side)]
        return (
            self.config.attention_score != "additive"
            and all(position.bias is closed for position in positions)
            and not self._mixers & {"local_attention", "dense"}  # the one masks its blocks, the other is all bias
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight) if std is None else init.normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.hidden_size**-0.5 if std is None else std)
        elif isinstance(module, nn.RNNBase):
            for name, weight in module.named_parameters():
                if name.startswith("bias"):
                    init.zeros_(weight)
                elif std is None:
                    init.uniform_(weight, -(module.hidden_size**-0.5), module.hidden_size**-0.5)
                else:
                    init.normal_(weight, std=std)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            init.ones_(module.weight)
            if isinstance(module, nn.LayerNorm):
                init.zeros_(module.bias)
        elif callable(draw := getattr(module, "draw", None)):
            # Our own modules that hold parameters themselves.
            draw(self.config.hidden_size**-0.5 if std is None else std)

    def _resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize the table; where each stack has its own, all of them."""
        resized = super()._resize_token_embeddings(*args, **kwargs)
        if not self.config.tie_word_embeddings and isinstance(self.base_model, SelfAttnBaseModel):
            for stack in self.base_model.stacks()[1:]:
                stack.embed_tokens = self._get_resized_embeddings(stack.embed_tokens, resized.weight.shape[0])
        return resized


class SelfAttnBaseModel(SelfAttnPreTrainedModel):
    """Stacks and the table of embeddings that they share, where `tie_word_embeddings` says so.

    A subclass makes its stacks; each has its own table, which is tied to the shared one by `_tied_weights_keys`.
    """

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.hidden_size) if config.tie_word_embeddings else None

    def stacks(self) -> list[Any]:
        """The stacks there are, the encoder first."""
        return [child for name, child in self.named_children() if name in ("encoder", "decoder")]

    def get_input_embeddings(self) -> nn.Embedding:
        """The shared table, or that of the first stack."""
        return self.stacks()[0].embed_tokens if self.shared is None else self.shared

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the shared table, or that of the first stack."""
        if self.shared is None:
            self.stacks()[0].embed_tokens = value
            return
        self.shared = value
        for stack in self.stacks():
            tied = nn.Embedding(value.num_embeddings, value.embedding_dim, device="meta")
            tied.weight = value.weight
            stack.embed_tokens = tied
