"""Export by PyTorch itself: graphs without Python code, as `torch.export` saves them (.pt2)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.data import Tokenizers

from .export_rows import Write, save_settings, save_tokenizers, start_and_ends
from .export_steps import MOST_TOKENS, SourceStep, TokenStep, check_exportable, examples, refuse

Programs = tuple[ExportedProgram, ExportedProgram]


def export_torch(
    model: SelfAttnForConditionalGeneration, tokenizers: Tokenizers, folder: Path, int8: bool
) -> Callable[[], Write]:
    """Leave encoder.pt2 and decoder.pt2 in a folder, with tokenizer and settings beside them.

    Args:
        model: in evaluation mode, with weights in float32.
        tokenizers: of its source and target.
        folder: where the files go.
        int8: not served here.

    Returns:
        What opens the folder again and writes ids greedily.

    Raises:
        ExportError: for a model whose graph would not be right for every length.
    """
    if int8:
        refuse("torch.export", "int8 is a matter of the engine that runs a graph", "Choose onnx or ctranslate2")
    for name, program in zip(("encoder", "decoder"), programs_of(model, "torch.export"), strict=True):
        program.example_inputs = None  # torch would pickle them
        torch.export.save(program, folder / f"{name}.pt2")
    save_tokenizers(tokenizers, folder)
    save_settings(model, folder, "torch")
    return lambda: open_torch(model, folder)


def programs_of(model: SelfAttnForConditionalGeneration, target: str) -> Programs:
    """The graphs of `SourceStep` and `TokenStep`, for any number of rows, source tokens and tokens written.

    Raises:
        ExportError: see `check_exportable`.
    """
    check_exportable(model.config, target)
    reading, writing = examples(model)
    known = {side: model.config.known_places(side) or MOST_TOKENS for side in ("encoder", "decoder")}
    rows, source = Dim("rows", min=1, max=2**16), Dim("source", min=1, max=known["encoder"])
    past = Dim("past", min=0, max=known["decoder"] - 1)
    ids, mask = {0: rows}, {0: rows, 1: source}
    kept, remembered = {0: rows, 2: source}, {0: rows, 2: past}
    parts = len(writing[2])
    shapes = ((mask, mask), (ids, mask, [kept] * parts, [remembered] * parts))
    with torch.no_grad():
        first, second = (
            torch.export.export(step, given, dynamic_shapes=shape, strict=False)
            for step, given, shape in zip(
                (SourceStep(model), TokenStep(model)), (reading, writing), shapes, strict=True
            )
        )
    return first, second


def open_torch(model: SelfAttnForConditionalGeneration, folder: Path) -> Write:
    """What the graphs in a folder write; of the model nothing is used but its start and end tokens and its sizes."""
    read, write = (torch.export.load(folder / f"{name}.pt2").module() for name in ("encoder", "decoder"))
    start, ends = start_and_ends(model)
    shapes = [part.shape for part in examples(model)[1][3]]

    @torch.no_grad()
    def run(ids: list[list[int]], most: int) -> list[list[int]]:
        width = max(map(len, ids))
        source = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        found: list[Tensor] = read(source, mask)
        past: Any = [torch.zeros(len(ids), shape[1], 0, shape[3]) for shape in shapes]
        last, written = torch.full((len(ids), 1), start), []
        for _ in range(most):
            logits, past = write(last, mask, found, past)
            last = logits.argmax(-1, keepdim=True)
            written.append(last[:, 0].tolist())
            if all(ends & set(row) for row in zip(*written, strict=True)):
                break
        return [list(row) for row in zip(*written, strict=True)]

    return run
