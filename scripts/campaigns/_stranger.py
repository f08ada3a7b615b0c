"""A process that does not have the package opens folders by their own code, as they were told to trust it.

Reads lines of JSON, [case, folder, door, words], and answers each by a line.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.modules["selfattn_hf"] = None  # type: ignore[assignment]  # any import of it fails
sys.path.insert(0, str(Path(__file__).parent))

from _judging import judge, measure  # noqa: E402 - after the path is set


def main() -> None:
    """Answer every line."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    doors: dict[str, Callable[..., Any]] = {
        "AutoConfig*": AutoConfig.from_pretrained,
        "AutoModelForSeq2SeqLM*": AutoModelForSeq2SeqLM.from_pretrained,
    }
    for number, line in enumerate(sys.stdin):
        case, folder, door, words = json.loads(line)
        work = doors[door]
        if number == 0:  # a whole folder: what is imported once counts for no attempt
            for each in doors.values():
                each(folder, trust_remote_code=True)
        outcome = measure(lambda work=work, folder=folder, words=words: judge(  # type: ignore[misc]
            lambda: work(folder, trust_remote_code=True), words))  # fmt: skip
        print(json.dumps([case, door, asdict(outcome)]), flush=True)


if __name__ == "__main__":
    main()
