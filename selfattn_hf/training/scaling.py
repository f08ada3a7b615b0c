"""What a step of training needs on N devices, counted from a model's own parameters: docs/scaling.md has the formulas.

P parameters are held in float32, with a gradient and two numbers of Adam for each: 16 bytes. DDP holds all of them on
every device, and sends gradients by a ring: each device sends 2 (N - 1)/N of them. FSDP2 holds 1/N, and besides the
gathered weights of the largest part, which it computes with; each device sends (N - 1)/N of all weights when they are
gathered for the forward pass and once more for the backward pass, and of the gradients when they are summed and cut.
"""

from dataclasses import dataclass
from typing import Any

import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

FLOAT, HALF = 4, 2  # bytes
# Models of the page: those of the project's own size, of the first Transformer's, and of a thousand million.
EXAMPLES: dict[str, dict[str, Any]] = {
    "2.6 million": {
        "vocab_size": 10000, "hidden_size": 128, "encoder_layers": 4, "decoder_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 256,
    },
    "60 million": {
        "vocab_size": 32000, "hidden_size": 512, "encoder_layers": 6, "decoder_layers": 6, "num_attention_heads": 8,
        "intermediate_size": 2048,
    },
    "1,000 million": {
        "vocab_size": 32000, "hidden_size": 1536, "encoder_layers": 18, "decoder_layers": 12,
        "num_attention_heads": 16, "intermediate_size": 6144,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Need:
    """Bytes of one device.

    Attributes:
        weights: float32; with FSDP the parts that are gathered at the same time too.
        gradients: float32.
        optimizer: two numbers of Adam for each weight, float32.
        activations: what the backward pass needs of the forward pass, about.
        sent: in a step, to other devices.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    sent: float

    @property
    def total(self) -> float:
        """All that lies on the device."""
        return self.weights + self.gradients + self.optimizer + self.activations


def parts_of(config: SelfAttnConfig) -> tuple[int, int, int]:
    """Parameters of the whole model, of its largest layer, and of what belongs to no layer; no memory is taken."""
    with torch.device("meta"):
        model = SelfAttnForConditionalGeneration(config)
    model.tie_weights()
    layers = [layer for stack in (model.get_encoder(), model.get_decoder()) for layer in stack.layers]
    sizes = [sum(weight.numel() for weight in layer.parameters()) for layer in layers]
    whole = sum(weight.numel() for weight in model.parameters())
    return whole, max(sizes), whole - sum(sizes)


def activations_of(config: SelfAttnConfig, rows: int, tokens: int, *, size: int = HALF) -> float:
    """About how many bytes the backward pass needs, for layers of self-attention and sources as long as targets.

    A token leaves in a layer what enters each sublayer and its norm, queries, keys, values, what was found (8 D in the
    encoder, 14 D with the cross-attention), and what enters and leaves the nonlinearity (2 F); fused attention keeps no
    table of T x T. The loss is computed some rows at a time, so that no logits are kept.
    """
    width, inner = config.hidden_size, config.intermediate_size if config.feedforward != "none" else 0
    encoder = config.encoder_layers * (8 * width + 2 * inner)
    decoder = config.decoder_layers * (14 * width + 2 * inner)
    return float(rows * tokens * (encoder + decoder) * size)


def need(config: SelfAttnConfig, devices: int, rows: int, tokens: int, *, cut: bool) -> Need:
    """What each device needs.

    Args:
        config: of the model.
        devices: how many share a step.
        rows: of a device's batch.
        tokens: of a source, and of a target.
        cut: FSDP2, in bfloat16 what is gathered; else DDP.
    """
    whole, layer, outside = parts_of(config)
    activations, others = activations_of(config, rows, tokens), (devices - 1) / devices
    if not cut:
        return Need(FLOAT * whole, FLOAT * whole, 2 * FLOAT * whole, activations, 2 * others * FLOAT * whole)
    own = FLOAT * whole / devices
    gathered = HALF * (outside + 2 * layer)  # the part of the root stays, and one layer is fetched while one computes
    return Need(own + gathered, own, 2 * own, activations, others * (2 * HALF + FLOAT) * whole)


def table(config: SelfAttnConfig, devices: list[int], rows: int, tokens: int) -> str:
    """A table in Markdown, in MiB."""
    whole, layer, _ = parts_of(config)
    lines = [
        f"{whole:,} parameters, {layer:,} in the largest layer; batches of {rows} rows of {tokens} tokens on a device. "
        "MiB on each device, and MiB that it sends in a step:",
        "",
        "| devices | way | weights | gradients | Adam | activations | together | sent |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for count in devices:
        for cut in (False, True):
            found = need(config, count, rows, tokens, cut=cut)
            numbers = (
                found.weights, found.gradients, found.optimizer, found.activations, found.total, found.sent,
            )  # fmt: skip
            shown = " | ".join(f"{number / 2**20:,.1f}" for number in numbers)
            lines.append(f"| {count} | {'FSDP2' if cut else 'DDP'} | {shown} |")
    return "\n".join(lines)
