"""CTranslate2 as a peer of decoding: a Marian of the same sizes with random weights, converted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ._batches import Batch
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


def converted_marian(sizes: Sizes, folder: Path, seed: int, left_out: dict[str, str]) -> Path | None:
    """A folder that CTranslate2 opens; None, noted in `left_out`, where it is not installed."""
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        left_out["CTranslate2"] = str(error)
        print(f"left out: CTranslate2 ({error}); pip install 'selfattn_hf[bench]'", flush=True)
        return None
    torch.manual_seed(seed)
    # CTranslate2 starts Marian from a vector of zeros and takes padding, its last token, out of the vocabulary.
    last = sizes.vocabulary - 1
    ids = {"pad_token_id": last, "decoder_start_token_id": last, "eos_token_id": 0, "bos_token_id": None}
    model = bart_like("Marian", sizes, **ids)
    model.config.save_pretrained(folder / "marian")

    class Converter(TransformersConverter):
        """Takes the model at hand instead of loading one."""

        def load_model(self, *args: Any, **kwargs: Any) -> Any:
            return model

        def load_tokenizer(self, *args: Any, **kwargs: Any) -> Words:
            return Words(sizes.vocabulary)

    Converter(str(folder / "marian")).convert(str(folder / "converted"))
    return folder / "converted"


def make_translator(folder: Path, options: Any) -> dict[str, Translate]:
    """Name -> what makes a writer of (beams, new tokens), for each number format."""
    import ctranslate2

    device, _, index = options.device.partition(":")

    def make(kind: str) -> Translate:
        translator = ctranslate2.Translator(
            str(folder), device=device, device_index=int(index or 0), compute_type=kind, inter_threads=1,
            intra_threads=options.threads,
        )  # fmt: skip

        def writer(beams: int, new_tokens: int) -> Callable[[Batch], list[list[str]]]:
            def write(batch: Batch) -> list[list[str]]:
                rows = zip(batch.source.tolist(), batch.lengths, strict=True)
                # The last token of a row is its end.
                texts = [[*(f"t{one}" for one in row[: own - 1]), Words.eos_token] for row, (own, _) in rows]
                answers = translator.translate_batch(
                    texts, beam_size=beams, min_decoding_length=new_tokens, max_decoding_length=new_tokens
                )
                return [answer.hypotheses[0] for answer in answers]

            return write

        return writer

    return {f"CTranslate2 {kind}": make(kind) for kind in FORMATS}
