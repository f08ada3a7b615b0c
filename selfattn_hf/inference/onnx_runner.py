"""Translate by an exported folder, with numpy, onnxruntime and tokenizers alone: no torch, no transformers.

    python runner.py "a small dog sleeps"       one text
    python runner.py < FILE                     a text on each line

This file lies in every folder that scripts/export.py --to onnx leaves. As a library: `OnnxTranslator(folder)(texts)`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32  # texts that are computed at once


class OnnxTranslator:
    """Two graphs and a tokenizer, from text to text, written greedily.

    Args:
        folder: what scripts/export.py --to onnx left.
        threads: of onnxruntime; None: as it chooses.

    Examples:
        >>> OnnxTranslator("runs/quickstart/onnx")(["the tenth of May 2020"])
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        folder = Path(folder)
        self.settings: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )
        self._asked = [given.name for given in self._decoder.get_inputs()]
        self._kept = [(given.name, given.shape) for given in self._decoder.get_inputs() if "past_" in given.name]
        self._made = [made.name.replace("present_", "past_") for made in self._decoder.get_outputs()]
        self.source = Tokenizer.from_file(str(folder / "tokenizer.json"))
        target = folder / "target_tokenizer.json"
        self.target = Tokenizer.from_file(str(target)) if target.is_file() else self.source
        for tokenizer in (self.source, self.target):
            tokenizer.no_padding()
            tokenizer.no_truncation()
            tokenizer.encode_special_tokens = bool(self.settings["split_special_tokens"])

    def __call__(self, texts: Sequence[str], max_new_tokens: int | None = None) -> list[str]:
        """Translate texts, in their order; an empty text has an empty answer.

        Raises:
            ValueError: for a text longer than the model has places for.
        """
        rows = [self._encode(number, text) if text.strip() else [] for number, text in enumerate(texts)]
        order = sorted((number for number, row in enumerate(rows) if row), key=lambda number: -len(rows[number]))
        answers = [""] * len(rows)
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            for number, ids in zip(some, self.write([rows[number] for number in some], max_new_tokens), strict=True):
                answers[number] = self.target.decode(ids, skip_special_tokens=True)
        return answers

    def write(self, rows: Sequence[Sequence[int]], max_new_tokens: int | None = None) -> list[list[int]]:
        """Ids of sources -> ids of answers, without start and end token."""
        start, ends, pad = self.settings["start"], self.settings["ends"], self.settings["pad"]
        width = max(map(len, rows))
        ids = np.full((len(rows), width), pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = row, 1
        found = self._encoder.run(None, {"input_ids": ids, "attention_mask": mask})
        given: dict[str, Any] = {f"source_{number}": part for number, part in enumerate(found)}
        given |= {"attention_mask": mask, "token_ids": np.full((len(rows), 1), start, dtype=np.int64)}
        given |= {name: np.zeros((len(rows), shape[1], 0, shape[3]), dtype=np.float32) for name, shape in self._kept}
        written, done = [], np.zeros(len(rows), dtype=bool)
        for _ in range(max_new_tokens or self.settings["max_new_tokens"]):
            made = self._decoder.run(None, {name: given[name] for name in self._asked})
            given |= dict(zip(self._made, made, strict=True))
            last = made[0].argmax(-1)
            written.append(last)
            done |= np.isin(last, ends)
            if done.all():
                break
            given["token_ids"] = last[:, None]
        return [_until(row, ends) for row in np.stack(written, axis=1).tolist()]

    def _encode(self, number: int, text: str) -> list[int]:
        ids: list[int] = self.source.encode(text).ids
        end = self.settings["source_end"]
        ids = ids if ids[-1:] == [end] else [*ids, end]
        known = self.settings["known_places"]
        if known is not None and len(ids) > known:
            raise ValueError(f"texts[{number}] has {len(ids)} tokens and the model knows {known} places; split it.")
        return ids


def _until(row: Sequence[int], ends: Sequence[int]) -> list[int]:
    first = next((place for place, one in enumerate(row) if one in ends), len(row))
    return list(row[:first])


if __name__ == "__main__":
    translate = OnnxTranslator(Path(__file__).parent)
    for line in sys.argv[1:] or sys.stdin:
        print(*translate([line.rstrip("\r\n")]), flush=True)
