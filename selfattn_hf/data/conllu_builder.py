"""CoNLL-U files as a data set, with splits, slices and a cache as any other.

The class stands alone: the datasets library replaces `open` and `gzip.open` in the file of a builder by its own, which
leave files open.
"""

from collections.abc import Iterator
from typing import Any

from datasets import DatasetInfo, Features, GeneratorBasedBuilder, List, SplitGenerator, Value

from .conllu_files import WORD_COLUMNS, comment_names, read_conllu


class ConlluBuilder(GeneratorBasedBuilder):
    """Reads CoNLL-U files for the datasets library.

    Args:
        data_files: split -> its files.

    Raises:
        ValueError: if the package conllu is missing.
    """

    def _info(self) -> DatasetInfo:
        files = [file for files in self.config.data_files.values() for file in files]
        comments = dict.fromkeys(name for file in files for name in comment_names(file))
        words = {column: List(Value("string")) for column in WORD_COLUMNS}
        return DatasetInfo(features=Features({**words, **{name: Value("string") for name in comments}}))

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        return [
            SplitGenerator(name=split, gen_kwargs={"files": list(files)})
            for split, files in self.config.data_files.items()
        ]

    def _generate_examples(self, files: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in files:
            for number, row in enumerate(read_conllu(file)):
                yield f"{file}:{number}", {name: row.get(name) for name in self.info.features}
