"""Data: from a Hub id, a folder or files to token ids in batches."""

from .collating import Seq2SeqCollator
from .loading import load_splits
from .preparing import PrepareReport, prepare
from .sampling import LengthGroupedSampler, TokenBudgetBatchSampler
from .settings import DataSettings
from .tokenization import Tokenizers, load_tokenizers, train_tokenizers

__all__ = [
    "DataSettings",
    "LengthGroupedSampler",
    "PrepareReport",
    "Seq2SeqCollator",
    "TokenBudgetBatchSampler",
    "Tokenizers",
    "load_splits",
    "load_tokenizers",
    "prepare",
    "train_tokenizers",
]
