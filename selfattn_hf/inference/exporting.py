"""A trained model leaves PyTorch: exported for another engine, and compared with itself before anybody relies on it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.data import Tokenizers

from .export_ctranslate2 import export_ctranslate2
from .export_onnx import export_onnx
from .export_rows import Write, left_out, longest_answer, reference, rows_of, start_and_ends, until_end
from .export_torch import export_torch
from .translator import Translator

Export = Callable[[SelfAttnForConditionalGeneration, Tokenizers, Path, bool], Callable[[], Write]]

TARGETS: dict[str, Export] = {"onnx": export_onnx, "torch": export_torch, "ctranslate2": export_ctranslate2}
EXTRAS = {"onnx": "onnx", "ctranslate2": "ct2"}  # what pip install selfattn_hf[...] calls their packages
SEED = 1


class MismatchError(ArithmeticError):
    """An export that does not write what the model writes."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export left, and how it compares with the model.

    Attributes:
        folder: where it lies.
        megabytes: of all its files.
        rows: that were compared.
        equal: of them with the same answer, token for token.
        tokens: that the model wrote for them.
        left_out: settings saved with the model that a greedy search passes over.
        int8: whether weights were rounded, so that answers may differ.
    """

    folder: Path
    megabytes: float
    rows: int
    equal: int
    tokens: int
    left_out: list[str]
    int8: bool

    def __str__(self) -> str:
        share = f"{self.equal} of {self.rows} greedy answers ({self.tokens} tokens) are those of model.generate"
        rounded = "; weights of 8 bits may change some" if self.int8 else ""
        return f"compared: {share}, token for token{rounded}"


def export_folder(
    folder_or_id: str | Path,
    target: str,
    output: str | Path,
    *,
    int8: bool = False,
    texts: Sequence[str] = (),
    rows: int = 8,
    revision: str | None = None,
) -> ExportReport:
    """Export a saved model and compare what was exported with it.

    Args:
        folder_or_id: a folder that `scripts/train.py` left, or the name of a model on the Hub.
        target: one of `TARGETS`.
        output: a folder that is new or empty.
        int8: round weights to 8 bits, where the engine does.
        texts: to compare on; without any, rows of drawn tokens.
        rows: number of drawn rows.
        revision: commit, tag or branch on the Hub.

    Raises:
        ExportError: for a model that the target cannot hold, with the reason.
        MismatchError: where the export writes something else than the model; its files stay, to be looked at.
        ValueError: for a target that there is not, a folder that is not empty, a package that is missing.
        OSError: where nothing can be loaded from.
    """
    if target not in TARGETS:
        raise ValueError(f"a model is exported to one of {', '.join(TARGETS)}, got {target!r}.")
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is not empty, and an export would mix with what is there. Name a new folder.")
    translator = Translator.from_pretrained(folder_or_id, revision=revision, device="cpu", dtype="float32")
    output.mkdir(parents=True, exist_ok=True)
    try:
        opened = TARGETS[target](translator.model, translator.tokenizers, output, int8)
    except ImportError as error:
        output.rmdir()
        raise ValueError(
            f"--to {target} needs a package that is not installed ({error}): pip install "
            f"'selfattn_hf[{EXTRAS.get(target, target)}]'."
        ) from error
    except ValueError:
        if not any(output.iterdir()):
            output.rmdir()
        raise
    return compare(translator, opened(), output, texts=texts, rows=rows, int8=int8)


def compare(
    translator: Translator, write: Write, folder: Path, *, texts: Sequence[str], rows: int, int8: bool
) -> ExportReport:
    """Compare an export with the model, and say how it went.

    Raises:
        MismatchError: where weights are whole and an answer differs.
    """
    model = translator.model
    ids = rows_of(model, translator.tokenizers, texts, rows, SEED)
    most, ends = longest_answer(model), start_and_ends(model)[1]
    expected = reference(model, ids, most)
    found = [until_end(row, ends) for row in write(ids, most)]
    equal = sum(one == other for one, other in zip(expected, found, strict=True))
    if equal < len(ids) and not int8:
        number = next(i for i, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1])
        raise MismatchError(
            f"{len(ids) - equal} of {len(ids)} answers of {folder} are not those of the model; row {number} is "
            f"{found[number][:20]} and should be {expected[number][:20]}. Do not use it; the files are kept to be "
            "looked at."
        )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    tokens = sum(map(len, expected))
    return ExportReport(folder, size, len(ids), equal, tokens, left_out(model.generation_config), int8)
