"""CTranslate2 as a peer of decoding: a Marian of the same sizes with random weights, converted."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ._batches import Batch
from ._measure import leave_out
from ._peers import bart_like
from ._sizes import Sizes

FORMATS = ("float32", "int8")
Translate = Callable[[int, int], Callable[[Batch], list[list[str]]]]


class Words:
    """What the converter asks of a tokenizer: token `t7` has id 7, the end token id 0, padding the last id."""

    eos_token, unk_token, bos_token = "</s>", "t1", None

    def __init__(self, size: int) -> None:
        self.words = [self.eos_token, *(f"t{number}" for number in range(1, size - 1)), "<pad>"]

    def get_vocab(self) -> dict[str, int]:
        """Token -> id."""
        return {word: number for number, word in enumerate(self.words)}

    def convert_ids_to_tokens(self, number: int) -> str:
        """Id -> token."""
        return self.words[number]


def translators_of(sizes: Sizes, folder: Path, options: Any, left_out: dict[str, str]) -> dict[str, Translate]:
    """Name -> what makes a writer of (beams, new tokens), for each number format; what is missing is in `left_out`."""
    try:
        import ctranslate2
        import ctranslate2.converters
    except ImportError as error:
        leave_out("CTranslate2", error, left_out)
        return {}
    torch.manual_seed(options.seed)
    convert_marian(ctranslate2.converters.TransformersConverter, sizes, folder)
    device, _, index = options.device.partition(":")
    translators: dict[str, Translate] = {}
    for kind in FORMATS:
        try:
            translator = ctranslate2.Translator(
                str(folder / "converted"), device=device, device_index=int(index or 0), compute_type=kind,
                inter_threads=1, intra_threads=options.threads,
            )  # fmt: skip
        except (ValueError, RuntimeError) as error:  # this build, or this device, cannot compute so
            leave_out(f"CTranslate2 {kind}", error, left_out)
        else:
            translators[f"CTranslate2 {kind}"] = partial(writer, translator)
    return translators


def convert_marian(converter: Any, sizes: Sizes, folder: Path) -> None:
    """Leave a Marian with random weights in `folder`/converted, as CTranslate2 opens it."""
    # CTranslate2 starts Marian from a vector of zeros and takes padding, its last token, out of the vocabulary.
    last = sizes.vocabulary - 1
    ids = {"pad_token_id": last, "decoder_start_token_id": last, "eos_token_id": 0, "bos_token_id": None}
    model = bart_like("Marian", sizes, **ids)
    model.config.save_pretrained(folder / "marian")

    class Converter(converter):
        """Takes the model at hand instead of loading one."""

        def load_model(self, *args: Any, **kwargs: Any) -> Any:
            return model

        def load_tokenizer(self, *args: Any, **kwargs: Any) -> Words:
            return Words(sizes.vocabulary)

    Converter(str(folder / "marian")).convert(str(folder / "converted"))


def writer(translator: Any, beams: int, new_tokens: int) -> Callable[[Batch], list[list[str]]]:
    """What writes `new_tokens` for each row of a batch."""

    def write(batch: Batch) -> list[list[str]]:
        rows = zip(batch.source.tolist(), batch.lengths, strict=True)
        texts = [[*(f"t{one}" for one in row[: own - 1]), Words.eos_token] for row, (own, _) in rows]
        answers = translator.translate_batch(
            texts, beam_size=beams, min_decoding_length=new_tokens, max_decoding_length=new_tokens
        )
        return [answer.hypotheses[0] for answer in answers]

    return write
