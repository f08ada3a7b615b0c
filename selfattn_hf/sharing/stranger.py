"""Opens a folder as a stranger does: without the package, by the code beside the weights, by every Auto class it names.

It runs in a process of its own, `python -I stranger.py FOLDER TEXT`, and prints one line of JSON: which class each Auto
class gave, and what the model wrote. Only what a stranger has is imported: torch and transformers.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.modules["selfattn_hf"] = None  # type: ignore[assignment]  # from now on importing it raises ImportError


def main(folder: str, text: str) -> None:
    """Open, generate, print."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    saved = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    architecture = (saved.get("architectures") or [None])[0]
    opened, wrote = {}, None
    for auto in saved["auto_map"]:
        door = getattr(transformers, auto)
        if auto == "AutoConfig":
            opened[auto] = type(door.from_pretrained(folder, trust_remote_code=True)).__name__
            continue
        model, report = door.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        opened[auto] = type(model).__name__
        home = type(model).__module__.split(".")[0]
        if home != "transformers_modules":
            raise SystemExit(f"{auto} took {opened[auto]} from {home}, not from the folder")
        if opened[auto] == architecture:
            if report["missing_keys"]:
                raise SystemExit(f"{auto} found no weights for {', '.join(sorted(report['missing_keys'])[:5])}")
            wrote = write(model, folder, text)
    if architecture not in opened.values():
        raise SystemExit(f"no Auto class of the folder opens {architecture}, which was saved")
    print(json.dumps({"opened": opened, "wrote": wrote}))


def write(model: Any, folder: str, text: str) -> str | None:
    """What the model writes about a text, or its first outputs where it does not write."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = None
    ids = torch.tensor([[model.config.eos_token_id or 0]])
    if (Path(folder) / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.reads_trees:  # any tree will do: each token under the one before it
        batch["syntax_heads"] = (torch.arange(ids.shape[1]) - 1).clamp(min=0)[None]
    if not model.can_generate():
        first = model(**batch)[0]
        if not torch.isfinite(first).all():
            raise SystemExit("the model's outputs are no finite numbers")
        return None
    out = model.generate(**batch, max_new_tokens=16, min_new_tokens=1)[0]
    return " ".join(map(str, out.tolist())) if tokenizer is None else str(tokenizer.decode(out))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
