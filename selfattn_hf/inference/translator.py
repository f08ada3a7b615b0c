"""Text in, text out: a tokenizer, `generate`, the tokenizer back.

transformers 5 has no translation pipeline any more, so this is the one place that knows how to batch, sort and limit.
"""

import copy
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from transformers import GenerationConfig

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import Tokenizers, load_tokenizers
from selfattn_hf.model import near

from .int8 import to_int8
from .sources import Row, Sources, TextError, pairs

logger = logging.getLogger(__name__)

# Where neither the call nor the saved generation config says how long an answer may get.
DEFAULT_MAX_NEW_TOKENS = 256
DEFAULT_BATCH_SIZE = 32
# A stream is read so many batches at a time: enough for rows of one length to meet, little enough for any memory.
BATCHES_AHEAD = 16


class Translator:
    """A trained model with its tokenizers, from text to text.

    Args:
        model: a sequence-to-sequence model; it is put into evaluation mode.
        tokenizers: of its source and target language; for a model that reads trees, with `syntax`.

    Raises:
        ValueError: if the tokenizers have more tokens than the model, or do not say how the trees are made
            that it reads.

    Examples:
        >>> translator = Translator.from_pretrained("runs/quickstart")
        >>> translator(["3 March 1998", "the tenth of May 2020"], num_beams=5)
    """

    def __init__(self, model: SelfAttnForConditionalGeneration, tokenizers: Tokenizers) -> None:
        tokenizers.check_fit(model.config.vocab_size)
        self.model = model.eval()
        self.tokenizers = tokenizers
        self._sources = Sources(tokenizers, model.config)

    @property
    def reads_heads(self) -> bool:
        """Whether a text is given as words with their heads, because the model was trained on trees of the data."""
        return self._sources.read_heads

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        int8: bool = False,
    ) -> "Translator":
        """Load model and tokenizers from a saved folder or from the Hub.

        Args:
            folder_or_id: a folder that `scripts/train.py` left, or the name of a model on the Hub.
            revision: commit, tag or branch on the Hub.
            device: where it computes; None: a GPU where torch sees one, else the CPU.
            dtype: number format of the weights, such as "bfloat16"; None: as saved.
            int8: on a CPU, round the weights of linear layers to 8 bits, and what they read: a quarter of the memory,
                and faster; answers may differ by a word (docs/performance.md).

        Raises:
            ValueError: for a dtype or device that torch does not know, or that does not go with int8, a folder that is
                not whole or of another model, or a tokenizer that is not the model's.
            OSError: where nothing can be loaded from.
        """
        device = _device(device)
        if isinstance(dtype, str) and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"dtype is a number format of torch, such as float32 or bfloat16, got {dtype!r}.")
        if int8 and (device.type != "cpu" or dtype not in (None, "float32", torch.float32)):
            raise ValueError(
                f"int8=True is for a CPU and rounds weights of float32, got device={device} and dtype={dtype}. Leave "
                "dtype out and set device='cpu', or leave int8 out."
            )
        config = SelfAttnConfig.from_pretrained(folder_or_id, revision=revision)
        tokenizers = load_tokenizers(folder_or_id, revision=revision)
        model = SelfAttnForConditionalGeneration.load_trained(
            folder_or_id, revision=revision, config=config, dtype="float32" if int8 else dtype or "auto"
        )
        return cls(to_int8(model) if int8 else model.to(device), tokenizers)

    @overload
    def __call__(self, texts: str, **options: Any) -> str: ...

    @overload
    def __call__(self, texts: Sequence[str], **options: Any) -> list[str]: ...

    @overload
    def __call__(
        self, texts: Sequence[Sequence[str]], *, heads: Sequence[Sequence[int | str]], **options: Any
    ) -> list[str]: ...

    def __call__(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        *,
        heads: Sequence[Sequence[int | str]] | None = None,
        num_beams: int | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        batch_tokens: int | None = None,
        max_new_tokens: int | None = None,
        **generate: Any,
    ) -> str | list[str]:
        """Translate one text or many. Answers come in the order of the texts; an empty text has an empty answer.

        Args:
            texts: one text, or a sequence of them; for a model that `reads_heads`, a sequence of lists of words.
            heads: for such a model, of each text the heads of its words as Universal Dependencies count them: the
                number of the head word, from 1 on, and 0 for the root.
            num_beams: width of the beam search, 1 is greedy; None: as saved with the model.
            batch_size: texts that are computed at once, at most; it changes the time, not the answers.
            batch_tokens: source tokens that are computed at once, at most, padding counted: many short texts, few long
                ones, about the same memory. A longer text goes alone. None: batch_size alone counts.
            max_new_tokens: longest answer in tokens; None: as saved with the model, else 256 or the places that the
                decoder knows. Answers that reach it are counted in a warning of the log.
            **generate: any other field of transformers' `GenerationConfig`.

        Raises:
            ValueError: for something that is no text, a text longer than the model has places for, or without a tree
                that the model needs, with its index.
        """
        self._sources.check_heads(texts, heads is not None)
        _check_limits(batch_size, batch_tokens)
        if isinstance(texts, str):
            return self([texts], num_beams=num_beams, max_new_tokens=max_new_tokens, **generate)[0]
        settings, limit = self._settings(num_beams, max_new_tokens, generate)
        sources = self._sources.encode(texts, heads)
        answers = [""] * len(sources)
        full = 0
        # Texts of one length meet in one batch, the longest first: what does not fit into memory shows at once.
        order = sorted((i for i, row in enumerate(sources) if row), key=lambda i: -len(sources[i]["input_ids"]))
        lengths = [len(row["input_ids"]) if row else 0 for row in sources]
        for rows in _batches(order, lengths, batch_size, batch_tokens):
            decoded, unfinished = self._generate([sources[i] for i in rows], settings)
            full += unfinished
            for i, answer in zip(rows, decoded, strict=True):
                answers[i] = answer
        if full:
            logger.warning(f"{full} of {len(answers)} answers reached max_new_tokens={limit} and may be cut off.")
        return answers

    def stream(
        self,
        texts: Iterable[str] | Iterable[Sequence[str]],
        *,
        heads: Iterable[Sequence[int | str]] | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        **options: Any,
    ) -> Iterator[str]:
        """Translate texts that do not fit into memory: answers in order, as soon as some batches are done.

        Args:
            texts: any iterable, read a few batches ahead.
            heads: as for a call, any iterable as long as `texts`, which is read with it.
            batch_size: texts that are computed at once.
            **options: as for a call.

        Raises:
            ValueError: as for a call; the index counts from the first text of the stream.
        """
        _check_limits(batch_size, options.get("batch_tokens"))
        self._sources.check_heads(texts, heads is not None)
        rows: Iterator[Any] = iter(texts) if heads is None else pairs(texts, heads)
        done = 0
        while some := list(itertools.islice(rows, batch_size * BATCHES_AHEAD)):
            if heads is not None:
                options["heads"] = [above for _, above in some]
            try:
                yield from self(
                    some if heads is None else [words for words, _ in some], batch_size=batch_size, **options
                )
            except TextError as error:
                raise TextError(done + error.index, error.reason) from None
            done += len(some)

    def _settings(
        self, num_beams: int | None, max_new_tokens: int | None, generate: dict[str, Any]
    ) -> tuple[GenerationConfig, int]:
        """The generation config saved with the model, with what the call asks for; the longest answer in tokens."""
        for name, given in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens)):
            if given is not None and given < 1:
                raise ValueError(f"{name} is a number and starts at 1, got {given}.")
        settings = copy.deepcopy(self.model.generation_config)
        settings.update(num_beams=num_beams or settings.num_beams)
        if unknown := settings.update(**generate):
            name = next(iter(unknown))
            hint = near(name, vars(settings)) or " Leave it out."
            raise ValueError(f"{name} is no setting of a translation and no field of GenerationConfig.{hint}")
        if settings.return_dict_in_generate or (settings.num_return_sequences or 1) > 1:
            raise ValueError(
                "A Translator gives one answer per text, so num_return_sequences and return_dict_in_generate do not "
                "fit. Call translator.model.generate() for more."
            )
        places = self.model.config.known_places("decoder")
        saved = settings.max_new_tokens or (settings.max_length and settings.max_length - 1)
        limit = max_new_tokens or saved or min(DEFAULT_MAX_NEW_TOKENS, places or DEFAULT_MAX_NEW_TOKENS)
        # The first place is that of decoder_start_token_id, and the last new token is not read again.
        if places is not None and limit > places:
            raise ValueError(
                f"max_new_tokens must not exceed the {places} places that the model's decoder knows, got {limit}. "
                "Ask for less, or train with a larger max_position_embeddings."
            )
        own = self.model.generation_config
        if own.max_new_tokens is None and own.max_length is not None:
            # The start token counts. Beside max_new_tokens, generate() would find the saved max_length again, and warn.
            settings.max_new_tokens, settings.max_length = None, limit + 1
        else:
            settings.max_new_tokens, settings.max_length = limit, None
        return settings, limit

    @torch.inference_mode()
    def _generate(self, rows: list[Row], settings: GenerationConfig) -> tuple[list[str], int]:
        """Answers of one batch, and how many of them stopped only because of max_new_tokens."""
        batch = self._sources.batch(rows, self.model.device)
        answers = self.model.generate(**batch, generation_config=settings)
        eos = settings.eos_token_id
        end = torch.tensor([] if eos is None else eos, device=answers.device)
        finished = torch.isin(answers[:, 1:], end).any(dim=1)
        texts = self.tokenizers.target.batch_decode(answers, skip_special_tokens=True)
        return texts, int((~finished).sum())


def _check_limits(batch_size: int, batch_tokens: int | None) -> None:
    for name, what, given in (("batch_size", "texts", batch_size), ("batch_tokens", "tokens", batch_tokens)):
        if given is not None and given < 1:
            raise ValueError(f"{name} is a number of {what} and starts at 1, got {given}.")


def _batches(order: list[int], lengths: list[int], most: int, most_tokens: int | None) -> Iterator[list[int]]:
    """Texts in their order, the longest first, as many at once as both limits allow, and at least one."""
    start = 0
    while start < len(order):
        fit = most if most_tokens is None else min(most, max(1, most_tokens // lengths[order[start]]))
        yield order[start : start + fit]
        start += fit


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is a name that torch knows, such as cpu, cuda or cuda:1, got {device!r}.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r} needs a GPU that torch sees, and it sees none. Choose cpu.")
    return chosen
