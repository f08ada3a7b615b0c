"""The future masked in one pass, against every prefix recomputed: the same outputs, see insight/prefixes.py."""

import argparse
from typing import Any

import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForCausalLM
from selfattn_hf.insight import prefix_by_prefix

from ._measure import agree, interleaved, ratios, spread, surroundings

VOCABULARY = 1000
TOLERANCE = 1e-4


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Forward and backward of a decoder, masked and prefix by prefix; outputs are compared before they are timed."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    config = SelfAttnConfig(
        vocab_size=VOCABULARY,
        hidden_size=options.hidden_size,
        intermediate_size=4 * options.hidden_size,
        decoder_layers=options.layers,
        num_attention_heads=4,
    )
    model = SelfAttnForCausalLM(config).eval().to(options.device)

    def mask(ids: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
        logits.square().mean().backward()
        return logits.detach()

    def prefixes(ids: torch.Tensor) -> torch.Tensor:
        with prefix_by_prefix(model):
            return mask(ids)

    rows, checks = [], []
    for length in options.lengths:
        ids = torch.randint(3, VOCABULARY, (1, length), device=options.device)
        difference = float((mask(ids) - prefixes(ids)).abs().max())
        checks.append(agree(f"the mask at {length} tokens", difference, TOLERANCE))
        took = interleaved({"mask": mask, "prefixes": prefixes}, [ids] * options.repeats, options.device, warm_up=0)
        rows.append({
            "tokens": length, "mask_ms": round(1000 * spread(took["mask"]).median, 2),
            "prefixes_ms": round(1000 * spread(took["prefixes"]).median, 2),
            "ratio": ratios(took["prefixes"], took["mask"]).rounded(3),
        })  # fmt: skip
    return {
        "benchmark": "mask", "surroundings": surroundings(options),
        "settings": {"hidden_size": options.hidden_size, "layers": options.layers, "repeats": options.repeats},
        "checks": checks, "goals": [], "rows": rows, "left_out": {},
    }  # fmt: skip
