"""Text -> ids and back: tokenizers trained on the training split, saved as plain fast tokenizers.

All three kinds share one pipeline. A space is put before the text, so that a word has the same token at the start and
in the middle, and is taken away again when decoding. Digits stand alone, so that numbers are made of parts. BPE and
unigram work on bytes: every text can be written, and decoding gives it back exactly (up to Unicode's NFC).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .settings import DataSettings
from .syntax import Syntax

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL_TOKENS = [PAD, BOS, EOS, UNK]  # their ids are 0, 1, 2, 3

# Written into the source tokenizer's file: where, beside it, the target's tokenizer lies. A marker and not a search, so
# that a folder on the Hub needs no extra request and a missing subfolder is noticed.
TARGET_FOLDER = "target_tokenizer"
# Written there too: how the trees of the source are made. The model cannot say it, and is of no use without it.
SYNTAX, SYNTAX_LANGUAGE = "syntax", "syntax_language"

_BYTES = pre_tokenizers.ByteLevel.alphabet()
_SMALLEST_BYTE_VOCABULARY = len(SPECIAL_TOKENS) + len(_BYTES)


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizer of the source and that of the target; one object where both share a vocabulary.

    Attributes:
        source: text -> ids.
        target: ids -> text.
        syntax: how the trees of the source are made, for a model that reads them; else None.

    Raises:
        ValueError: if a tokenizer has no padding or end token, or the two pad with different ids.
    """

    source: PreTrainedTokenizerBase
    target: PreTrainedTokenizerBase
    syntax: Syntax | None = None

    def __post_init__(self) -> None:
        for tokenizer in (self.source, self.target):
            for name in ("pad_token", "eos_token"):
                if getattr(tokenizer, name) is None:
                    raise ValueError(
                        f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no {name}, which "
                        f"padding and the end of a text need. Load it, set tokenizer.{name} to one of its tokens, save "
                        "it, and name the saved folder."
                    )
        if self.source.pad_token_id != self.target.pad_token_id:
            raise ValueError(
                f"source and target tokenizer must pad with the same id; they have {self.source.pad_token_id} and "
                f"{self.target.pad_token_id}. Train both with the same special tokens."
            )

    @property
    def shared(self) -> bool:
        """Whether source and target have one vocabulary."""
        return self.source is self.target

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding table needs: one more than the largest id of either."""
        return max(max(tokenizer.get_vocab().values()) for tokenizer in (self.source, self.target)) + 1

    def fit(self, rows: int) -> bool:
        """Whether an embedding table of so many rows knows every token of a text.

        A mask token may be outside, as in bart-large-cnn: no text has one, and a batch that has one is refused.
        """
        return all(
            number < rows
            for tokenizer in (self.source, self.target)
            for number in tokenizer.get_vocab().values()
            if number != tokenizer.mask_token_id
        )

    def check_fit(self, rows: int) -> None:
        """Refuse an embedding table that does not `fit`.

        Raises:
            ValueError: with both numbers.
        """
        if not self.fit(rows):
            raise ValueError(
                f"The model must know every token of its tokenizer: it has {rows}, the tokenizer {self.vocab_size}. "
                "Load the tokenizer that the model was trained with."
            )

    def special_ids(self) -> dict[str, int | None]:
        """The special ids that a model's config needs; decoding starts with the first token, else with padding."""
        bos = self.target.bos_token_id
        return {
            "pad_token_id": self.target.pad_token_id,
            "bos_token_id": bos,
            "eos_token_id": self.target.eos_token_id,
            "decoder_start_token_id": self.target.pad_token_id if bos is None else bos,
        }

    def save(self, folder: str | Path) -> None:
        """Write both into a folder: the source's at its root, a separate target's in `target_tokenizer/`."""
        for marker in (TARGET_FOLDER, SYNTAX, SYNTAX_LANGUAGE):
            self.source.init_kwargs.pop(marker, None)
        if self.syntax is not None:
            self.source.init_kwargs[SYNTAX] = self.syntax.name
            if self.syntax.name == "parser":
                self.source.init_kwargs[SYNTAX_LANGUAGE] = self.syntax.language
        if not self.shared:
            self.target.save_pretrained(str(Path(folder) / TARGET_FOLDER))
            self.source.init_kwargs[TARGET_FOLDER] = TARGET_FOLDER
        self.source.save_pretrained(str(folder))


def load_tokenizers(folder_or_id: str | Path, *, revision: str | None = None) -> Tokenizers:
    """The tokenizers that lie in a folder or Hub repository.

    Args:
        folder_or_id: what `Tokenizers.save` or any other tool has written, or a Hub id.
        revision: commit, tag or branch on the Hub.

    Raises:
        FileNotFoundError: if a folder has no tokenizer.
        ValueError: if a tokenizer cannot be read, has no padding or end token, needs a package that is not installed,
            or names a place for the target's that is not in its folder.
    """
    source = _load(str(folder_or_id), revision)
    marks = source.init_kwargs
    subfolder = marks.get(TARGET_FOLDER)
    if subfolder not in (None, TARGET_FOLDER):
        raise ValueError(
            f"the tokenizer of {folder_or_id} says {TARGET_FOLDER}={subfolder!r}, and the target's tokenizer lies in "
            f"{TARGET_FOLDER}/ beside it or nowhere. Save both by Tokenizers.save()."
        )
    target = source if subfolder is None else _load(str(folder_or_id), revision, subfolder)
    syntax = Syntax(marks[SYNTAX], marks.get(SYNTAX_LANGUAGE, Syntax.language)) if SYNTAX in marks else None
    return Tokenizers(source, target, syntax)


def _load(name: str, revision: str | None, subfolder: str = "") -> PreTrainedTokenizerBase:
    path = Path(name) / subfolder
    local = Path(name).is_dir() or name.startswith((".", "/", "~"))
    if local and not (path / "tokenizer_config.json").is_file() and not (path / "tokenizer.json").is_file():
        raise FileNotFoundError(f"there is no tokenizer in {path}: it must hold tokenizer.json. Name the right folder.")
    options: dict[str, Any] = {"revision": revision} if revision is not None else {}
    try:
        return AutoTokenizer.from_pretrained(name, subfolder=subfolder, trust_remote_code=False, **options)
    except ImportError as error:  # Marian's, for one, needs sentencepiece
        needs = " ".join(str(error).split())
        raise ValueError(f"the tokenizer of {name} needs a package that is not installed. {needs}") from error
    except OSError:
        raise
    except Exception as error:  # the library tokenizers knows no other kind
        said = " ".join(str(error).split())
        raise ValueError(
            f"the tokenizer of {name} cannot be read from tokenizer.json and tokenizer_config.json ({said:.600}). "
            "Download or save it again."
        ) from error


def train_tokenizers(settings: DataSettings, train: Dataset) -> Tokenizers:
    """Tokenizers trained on the texts of the training split; rows that are no text are passed over.

    Args:
        settings: type and size of the vocabulary, shared or not, lower case or not; how trees are made.
        train: rows with the columns `source` and `target`.

    Raises:
        ValueError: if there is no text, or the vocabulary is too small for the type.
    """
    if settings.tokenizer_shared:
        shared = _train(settings, train, ("source", "target"))
        return Tokenizers(shared, shared, Syntax.of(settings))
    return Tokenizers(_train(settings, train, ("source",)), _train(settings, train, ("target",)), Syntax.of(settings))


def _texts(rows: Dataset, columns: tuple[str, ...], batch_size: int = 1000) -> Iterator[list[str]]:
    for batch in rows.select_columns(list(columns)).iter(batch_size=batch_size):
        yield [text for column in columns for text in batch[column] if isinstance(text, str) and text]


def _train(settings: DataSettings, train: Dataset, columns: tuple[str, ...]) -> PreTrainedTokenizerFast:
    if not any(_texts(train, columns)):
        raise ValueError(f"there is no text to train a tokenizer on: all rows of {' and '.join(columns)} are empty.")
    if settings.tokenizer_type != "word" and settings.tokenizer_vocab_size < _SMALLEST_BYTE_VOCABULARY:
        raise ValueError(
            f"tokenizer_vocab_size={settings.tokenizer_vocab_size} is too small for "
            f"tokenizer_type={settings.tokenizer_type!r}: {len(_BYTES)} bytes and {len(SPECIAL_TOKENS)} special tokens "
            f"need {_SMALLEST_BYTE_VOCABULARY}. Raise it, or set tokenizer_type to word."
        )
    model, trainer = _BUILDERS[settings.tokenizer_type](settings.tokenizer_vocab_size)
    tokenizer = Tokenizer(model)
    lower = [normalizers.Lowercase()] if settings.lowercase else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower, normalizers.Prepend(" ")])
    digits = pre_tokenizers.Digits(individual_digits=True)
    without_first_space = decoders.Strip(" ", 1, 0)
    if settings.tokenizer_type == "word":
        # A word keeps the space before it, so that decoding joins tokens as they stood.
        words = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\w\s]|\s"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
        tokenizer.decoder = decoders.Sequence([decoders.Fuse(), without_first_space])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), without_first_space])
    tokenizer.train_from_iterator(_texts(train, columns), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B:1 {EOS}:1", special_tokens=[(EOS, SPECIAL_TOKENS.index(EOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        split_special_tokens=True,  # a text with "</s>" in it is a text, and does not end there
    )


def _bpe(size: int) -> tuple[models.Model, trainers.Trainer]:
    return models.BPE(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL_TOKENS, initial_alphabet=_BYTES, show_progress=False
    )


def _unigram(size: int) -> tuple[models.Model, trainers.Trainer]:
    return models.Unigram(), trainers.UnigramTrainer(
        vocab_size=size, special_tokens=SPECIAL_TOKENS, unk_token=UNK, initial_alphabet=_BYTES, show_progress=False
    )


def _word(size: int) -> tuple[models.Model, trainers.Trainer]:
    return models.WordLevel(unk_token=UNK), trainers.WordLevelTrainer(
        vocab_size=size, special_tokens=SPECIAL_TOKENS, show_progress=False
    )


_BUILDERS: dict[str, Callable[[int], tuple[models.Model, trainers.Trainer]]] = {
    "bpe": _bpe,
    "unigram": _unigram,
    "word": _word,
}
