"""What is tested: variants of the model, a tester for each as transformers knows it, and models to compare with."""

import copy
import inspect

import torch
from transformers import (
    BartConfig,
    BartForCausalLM,
    BartForConditionalGeneration,
    BartModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5ForTokenClassification,
    T5Model,
)

from selfattn_hf import MODELS, SelfAttnConfig
from selfattn_hf.model.layers import MIXERS

TINY = {
    "vocab_size": 99,
    "hidden_size": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 50,
}
ROWS, WIDTH = 13, 7


def in_both_stacks(mixer):
    return {"encoder_mixer": mixer, "decoder_mixer": mixer}


# Every mixer, with order that enters by the embeddings; then the other doors of order.
OF_MIXERS = {mixer: in_both_stacks(mixer) for mixer in MIXERS}
OF_DOORS = {
    "no_order": {"position_encoding": "none"},
    "rotate": {"position_encoding": "rope"},
    "bias": {"position_encoding": "t5"},
}
OF_TREES = {"trees": {"encoder_position_encoding": ["tree_depth", "tree_relative"]}}
# What changes a stack as a whole.
OF_STACKS = {
    "unlike_layers": in_both_stacks(["rnn", "self_attention"]),
    "shared_layers": {"share_layers": True, "attend_to": "embeddings"},
    "three_tables": {"tie_word_embeddings": False, "output_bias": True},
}
VARIANTS = {
    "seq2seq": OF_MIXERS | OF_DOORS | OF_TREES | OF_STACKS,
    "encoder": OF_MIXERS | OF_DOORS | OF_TREES,
    "decoder": OF_MIXERS | OF_DOORS,
}


def group_of(model):
    """Models of one group take the same inputs and return the same outputs."""
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        return "seq2seq"
    return "decoder" if model.can_generate() else "encoder"


def models_of(group):
    return tuple(model for model in MODELS if group_of(model) == group)


def config_of(switches, group):
    config = SelfAttnConfig(**TINY | switches)
    return config.decoder_alone() if group == "decoder" else config


class ModelTester:
    """A config, and random inputs for its models."""

    batch_size = ROWS
    seq_length = encoder_seq_length = decoder_seq_length = WIDTH
    is_training = True

    def __init__(self, config, group):
        self.config, self.group = config, group
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "pad_token_id"):
            setattr(self, name, getattr(config, name))

    def get_config(self):
        return copy.deepcopy(self.config)

    def prepare_config_and_inputs_for_common(self):
        def draw():
            return torch.randint(3, self.vocab_size, (ROWS, WIDTH))  # 0, 1 and 2 are special

        inputs = {"input_ids": draw(), "attention_mask": torch.ones(ROWS, WIDTH, dtype=torch.long)}
        if self.group == "seq2seq":
            inputs |= {"decoder_input_ids": draw(), "decoder_attention_mask": torch.ones_like(inputs["attention_mask"])}
        if getattr(self.config, "reads_trees", False):
            inputs["syntax_heads"] = (torch.arange(WIDTH) // 2).repeat(ROWS, 1)  # a heap
        return self.get_config(), inputs


BART = {
    "vocab_size": 99, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 50,
}  # fmt: skip
T5 = {
    "vocab_size": 99, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip
# Models of transformers itself: what they run is not skipped here without a reason.
PEERS = {
    "seq2seq": {
        "bart": (BartConfig(**BART), (BartModel, BartForConditionalGeneration)),
        "t5": (T5Config(**T5), (T5Model, T5ForConditionalGeneration)),
    },
    "encoder": {"t5": (T5Config(**T5, is_encoder_decoder=False), (T5EncoderModel, T5ForTokenClassification))},
    "decoder": {"bart": (BartConfig(**BART, is_encoder_decoder=False, is_decoder=True), (BartForCausalLM,))},
}
