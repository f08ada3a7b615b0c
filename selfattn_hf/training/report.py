"""Figures for people and for files."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import sacrebleu
import tokenizers
import torch
import transformers

import selfattn_hf

from .disk import write_text
from .progress import say

_SHARES = ("token_accuracy", "exact_match")


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as JSON, whole or not at all."""
    write_text(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def show(results: Mapping[str, Any], examples: Sequence[Mapping[str, str]]) -> None:
    """Print examples, the figures of each split and what they mean."""
    for example in examples:
        say(f"  source     {example['source']}")
        say(f"  output     {example['output']}")
        say(f"  reference  {example['reference']}\n")
    for name in ("validation", "test"):
        if name in results:
            figures = results[name]
            say(f"{name}: " + ", ".join(f"{key} {_figure(key, value)}" for key, value in figures.items()))
    for name, signature in results["signatures"].items():
        say(f"{name} is {signature}")
    if "kept" in results:
        say(f"kept: {results['kept']}, step {results['kept_step']}")


def versions() -> dict[str, str]:
    """What the results were made with."""
    return {
        "selfattn_hf": selfattn_hf.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "datasets": datasets.__version__,
        "tokenizers": tokenizers.__version__,
        "sacrebleu": sacrebleu.__version__,
    }


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "loss" else f"{value:.2f}{' %' if name in _SHARES else ''}"
