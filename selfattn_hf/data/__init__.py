"""Data: from a Hub id, a folder or files to token ids in batches."""

from .collating import SYNTAX_COLUMNS, Seq2SeqCollator
from .conllu_files import read_conllu
from .encoding import NO_NODE, TreeTokens, encode_texts
from .heads import TreeError
from .loading import load_splits, open_streams
from .preparing import PrepareReport, prepare
from .sampling import LengthGroupedSampler, TokenBudgetBatchSampler
from .settings import DataSettings
from .streaming import Cut, StreamedBatches, cut_by, cut_by_tokens
from .syntax import Syntax
from .tokenization import Tokenizers, load_tokenizers, train_tokenizers

__all__ = [
    "NO_NODE",
    "SYNTAX_COLUMNS",
    "Cut",
    "DataSettings",
    "LengthGroupedSampler",
    "PrepareReport",
    "Seq2SeqCollator",
    "StreamedBatches",
    "Syntax",
    "TokenBudgetBatchSampler",
    "Tokenizers",
    "TreeError",
    "TreeTokens",
    "cut_by",
    "cut_by_tokens",
    "encode_texts",
    "load_splits",
    "load_tokenizers",
    "open_streams",
    "prepare",
    "read_conllu",
    "train_tokenizers",
]
