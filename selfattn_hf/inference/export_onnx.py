"""Export for onnxruntime: two ONNX graphs, a tokenizer, and a runner that needs neither torch nor transformers."""

import contextlib
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.data import Tokenizers

from .export_rows import Write, save_settings, save_tokenizers
from .export_torch import programs_of

RUNNER = Path(__file__).with_name("onnx_runner.py")


def export_onnx(
    model: SelfAttnForConditionalGeneration, tokenizers: Tokenizers, folder: Path, int8: bool
) -> Callable[[], Write]:
    """Leave encoder.onnx, decoder.onnx, tokenizer, settings and runner.py in a folder.

    Args:
        model: in evaluation mode, with weights in float32.
        tokenizers: of its source and target.
        folder: where the files go.
        int8: round weights to 8 bits, by onnxruntime's dynamic quantisation.

    Returns:
        What opens the folder and writes ids greedily.

    Raises:
        ExportError: for a model whose graph would not be right for every length.
    """
    programs = programs_of(model, "ONNX")
    parts = range(2 * len(list(model.get_decoder().steps())))
    source, past, present = ([f"{what}_{number}" for number in parts] for what in ("source", "past", "present"))
    names = {
        "encoder": (["input_ids", "attention_mask"], source),
        "decoder": (["token_ids", "attention_mask", *source, *past], ["logits", *present]),
    }
    for program, (name, (inputs, outputs)) in zip(programs, names.items(), strict=True):
        with _quietly():
            made = torch.onnx.export(program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False)
        if made is None:
            raise RuntimeError("torch.onnx.export returned nothing. Its own output says why.")
        path = folder / f"{name}.onnx"
        made.save(path)
        if int8:
            _round(path)
    save_tokenizers(tokenizers, folder)
    split = bool(getattr(tokenizers.source, "split_special_tokens", False))
    save_settings(model, folder, "onnx", source_end=tokenizers.source.eos_token_id, split_special_tokens=split)
    shutil.copyfile(RUNNER, folder / "runner.py")
    return lambda: open_onnx(folder)


def open_onnx(folder: Path) -> Write:
    """What the graphs in a folder write."""
    from .onnx_runner import OnnxTranslator

    return OnnxTranslator(folder, torch.get_num_threads()).write


def _round(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".float.onnx")
    path.rename(whole)
    with _quietly():
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of its own parts: packages that are not asked for, names that will change."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter", "onnxscript", "root")
    ]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for one in loggers:
                one.setLevel(logging.ERROR)
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
