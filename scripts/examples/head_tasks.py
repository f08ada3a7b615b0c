"""Four small tasks for the heads: what their rows are, how they are scored, and what counting alone reaches."""

from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import exp, log
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import ClassLabel, Dataset, load_dataset
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedTokenizerBase

from selfattn_hf.data import NO_NODE, DataSettings, Syntax, TreeError, read_conllu, train_tokenizers

Row = dict[str, Any]
Splits = dict[str, list[Row]]

IGNORED = -100  # the label that does not count
PADDING = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED, "syntax_heads": NO_NODE, "syntax_nodes": NO_NODE}
PARTS = {"train": "train", "validation": "dev", "test": "test"}  # as the files of a treebank call them
FINITE = {"VBD": "past", "VBZ": "present", "VBP": "present", "MD": "modal"}
TIMES = ["past", "present", "modal", "order", "none"]
ASKED = {"nsubj": "subject", "obj": "object"}


def accuracy(predicted: EvalPrediction) -> dict[str, float]:
    """Share of the labels that count that are right."""
    right = predicted.predictions == predicted.label_ids
    return {"accuracy": 100 * float(right[predicted.label_ids != IGNORED].mean())}


@dataclass
class Task:
    """What the Trainer must know of a task."""

    auto: Any
    """The Auto class of its head."""
    tokenizer: PreTrainedTokenizerBase
    rows: Splits
    """Split -> rows of ids and labels."""
    counting: dict[str, float]
    """What counting alone reaches on validation and test."""
    counted: str
    """And what is counted."""
    example: list[str]
    """What to ask the saved head: words with spaces between them, and a question where it takes one."""
    switches: dict[str, Any]
    """Fields of the config."""
    keep: Callable[[Any, Any], Tensor] = lambda logits, labels: logits.argmax(-1)
    """Logits and labels of a batch -> what its score needs."""
    score: Callable[[EvalPrediction], dict[str, float]] = accuracy
    """What was kept of a split -> figures."""
    figures: tuple[str, ...] = ("accuracy",)
    """Their names; counting is compared with the first."""


def collate(rows: list[Row]) -> dict[str, Tensor]:
    """Columns of lists [B, S], padded on the right, and columns of numbers [B]."""
    columns = {name: [torch.tensor(row[name]) for row in rows] for name in rows[0]}
    return {
        name: nn.utils.rnn.pad_sequence(column, batch_first=True, padding_value=PADDING[name])
        if column[0].ndim
        else torch.stack(column)
        for name, column in columns.items()
    }


def tokens(options: Namespace) -> Task:
    """The part of speech of every word, asked of the first of its tokens."""
    splits = treebank(options)
    tokenizer = trained_tokenizer((" ".join(row["tokens"]) for row in splits["train"]), options)
    tags = sorted({tag for row in chain(*splits.values()) for tag in row["upos"]})

    def features(row: Row) -> Row:
        encoded = tokenizer(row["tokens"], is_split_into_words=True)
        word_of, labels = encoded.word_ids(), []
        for place, word in enumerate(word_of):
            is_first = word is not None and (place == 0 or word_of[place - 1] != word)
            labels.append(tags.index(row["upos"][word]) if is_first else IGNORED)
        trees = {}
        if options.trees:
            (tree,) = Syntax("column").encode(tokenizer, [row["tokens"]], [row["head"]])
            if isinstance(tree, TreeError):
                raise tree
            trees = {"syntax_heads": tree.syntax_heads, "syntax_nodes": tree.syntax_nodes}
        return {**encoded, "labels": labels, **trees}

    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in splits["train"]:
        for word, tag in zip(row["tokens"], row["upos"], strict=True):
            seen[word][tag] += 1
    # A word that was never seen is like one that was seen once.
    new = Counter(tag for counts in seen.values() if counts.total() == 1 for tag in counts) or Counter(tags)

    def counting(row: Row) -> Iterator[bool]:
        for word, tag in zip(row["tokens"], row["upos"], strict=True):
            yield tag == seen.get(word, new).most_common(1)[0][0]

    return Task(
        auto=transformers.AutoModelForTokenClassification,
        tokenizer=tokenizer,
        rows={split: [features(row) for row in rows] for split, rows in splits.items()},
        counting=shares(splits, counting),
        counted="the most frequent tag of each word",
        example=[" ".join(splits["test"][0]["tokens"])],
        switches={
            "id2label": dict(enumerate(tags)),
            "encoder_position_encoding": ["rope", "tree_relative"] if options.trees else "rope",
        },
    )


def sequence(options: Namespace) -> Task:
    """The time of the main clause. Which words there are does not say it: a sentence has verbs of many clauses."""
    splits = treebank(options)
    tokenizer = trained_tokenizer((" ".join(row["tokens"]) for row in splits["train"]), options)

    def features(row: Row) -> Row:
        return {**tokenizer(" ".join(row["tokens"])), "labels": TIMES.index(time_of(row))}

    words = {time: Counter[str]() for time in TIMES}
    rows_of = Counter(time_of(row) for row in splits["train"])
    for row in splits["train"]:
        words[time_of(row)].update(row["tokens"])
    known = len(set().union(*words.values()))

    def counting(row: Row) -> Iterator[bool]:
        def score(time: str) -> float:
            total = words[time].total() + known
            return log(rows_of[time]) + sum(log((words[time][word] + 1) / total) for word in row["tokens"])

        yield max(rows_of, key=score) == time_of(row)

    return Task(
        auto=transformers.AutoModelForSequenceClassification,
        tokenizer=tokenizer,
        rows={split: [features(row) for row in rows] for split, rows in splits.items()},
        counting=shares(splits, counting),
        counted="words, by naive Bayes",
        example=[" ".join(splits["test"][0]["tokens"])],
        switches={"id2label": dict(enumerate(TIMES)), "encoder_position_encoding": "rope"},
    )


def time_of(row: Row) -> str:
    """What the root of the tree says, or the auxiliary or copula that hangs on it, by their Penn tags."""
    root = [int(head) for head in row["head"]].index(0)
    below = [
        (tag, relation.split(":")[0])
        for head, relation, tag in zip(row["head"], row["deprel"], row["xpos"], strict=True)
        if int(head) == root + 1
    ]
    verbs = [row["xpos"][root], *(tag for tag, relation in below if relation in ("aux", "cop"))]
    finite = [FINITE[tag] for tag in verbs if tag in FINITE]
    if finite:
        return finite[0]
    return "order" if "VB" in verbs and "mark" not in (relation for _, relation in below) else "none"


def question(options: Namespace) -> Task:
    """Which words of a sentence are the subject, or the object, of a verb; the tree says it exactly."""
    splits = treebank(options)
    asked = {split: [one for row in rows for one in questions(row)] for split, rows in splits.items()}
    texts = (" ".join([*row["question"], *row["tokens"]]) for row in asked["train"])
    tokenizer = trained_tokenizer(texts, options)

    def features(row: Row) -> Row:
        encoded = tokenizer(row["question"], row["tokens"], is_split_into_words=True)
        of_text = zip(encoded.sequence_ids(), encoded.word_ids(), strict=True)
        word_of = [word if part == 1 else None for part, word in of_text]
        last = len(word_of) - 1 - word_of[::-1].index(row["end"])
        return {**encoded, "start_positions": word_of.index(row["start"]), "end_positions": last}

    def keep(logits: tuple[Tensor, Tensor], labels: Any) -> Tensor:
        """First and last token [B, 2] of the likeliest span that does not end before it starts."""
        start, end = logits
        spans = start[:, :, None] + end[:, None, :]
        before = torch.ones_like(spans, dtype=torch.bool).tril(-1)
        best = spans.masked_fill(before, -torch.inf).flatten(1).argmax(-1)
        return torch.stack([best // start.shape[1], best % start.shape[1]], -1)

    def score(predicted: EvalPrediction) -> dict[str, float]:
        start, end = predicted.predictions.T
        first, last = predicted.label_ids
        shared = (end.clip(max=last) - start.clip(min=first) + 1).clip(min=0)
        both = (end - start + 1) + (last - first + 1)
        return {
            "exact": 100 * float(((start == first) & (end == last)).mean()),
            "f1": 100 * float((2 * shared / both).mean()),
        }

    def counting(row: Row) -> Iterator[bool]:
        neighbour = row["tokens"].index(row["question"][-1]) + (-1 if row["question"][0] == "subject" else 1)
        yield row["start"] == row["end"] == neighbour

    first = asked["test"][0]
    return Task(
        auto=transformers.AutoModelForQuestionAnswering,
        tokenizer=tokenizer,
        rows={split: [features(row) for row in rows] for split, rows in asked.items()},
        counting=shares(asked, counting),
        counted="the word before the verb is its subject, the one behind it its object",
        example=[" ".join(first["tokens"]), " ".join(first["question"])],
        switches={"encoder_position_encoding": "rope", "dropout": 0.1},
        keep=keep,
        score=score,
        figures=("exact", "f1"),
    )


def questions(row: Row) -> Iterator[Row]:
    """What can be asked of a sentence: of verbs that stand in it once, with one such word, and words side by side."""
    words, heads = row["tokens"], [int(head) - 1 for head in row["head"]]
    relations = Counter(zip(row["deprel"], heads, strict=True))
    for child, (relation, verb) in enumerate(zip(row["deprel"], heads, strict=True)):
        if relation not in ASKED or row["upos"][verb] != "VERB":
            continue
        if words.count(words[verb]) > 1 or relations[relation, verb] > 1:
            continue
        span = [word for word in range(len(words)) if hangs_on(word, child, heads)]
        if span[-1] - span[0] + 1 == len(span):
            yield {"question": [ASKED[relation], "of", words[verb]], "tokens": words, "start": span[0], "end": span[-1]}


def hangs_on(word: int, above: int, heads: list[int]) -> bool:
    """Whether a word is another, or stands anywhere below it."""
    while word not in (above, -1):
        word = heads[word]
    return word == above


def language(options: Namespace) -> Task:
    """The next token of a text."""
    loaded = load_dataset(options.data)
    texts = {split: list(some(loaded[split], options)[options.column]) for split in PARTS}
    tokenizer = trained_tokenizer(texts["train"], options)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    start = TemplateProcessing(single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, bos)])
    tokenizer.backend_tokenizer.post_processor = start  # a prompt begins, and does not end

    def features(text: str) -> Row:
        ids = [*tokenizer(text)["input_ids"], eos]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}

    rows = {split: [features(text) for text in texts[split]] for split in PARTS}
    seen = Counter(token for row in rows["train"] for token in row["input_ids"][1:])
    total = seen.total() + len(tokenizer)

    def unigram(split: str) -> float:
        losses = [-log((seen[token] + 1) / total) for row in rows[split] for token in row["input_ids"][1:]]
        return exp(sum(losses) / len(losses))

    def keep(logits: Tensor, labels: Tensor) -> Tensor:
        """Loss [B, T - 1] of every token but the first."""
        return nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")

    def score(predicted: EvalPrediction) -> dict[str, float]:
        counts = predicted.label_ids[:, 1:] != IGNORED
        return {"perplexity": exp(float(predicted.predictions[counts].mean()))}

    return Task(
        auto=transformers.AutoModelForCausalLM,
        tokenizer=tokenizer,
        rows=rows,
        counting={split: unigram(split) for split in ("validation", "test")},
        counted="tokens one by one",
        example=[" ".join(texts["test"][0].split()[:2])],
        switches={"is_encoder_decoder": False, "position_encoding": "rope", "dropout": 0.1},
        keep=keep,
        score=score,
        figures=("perplexity",),
    )


def treebank(options: Namespace) -> Splits:
    """Split -> sentences: words, tags, heads, relations; from CoNLL-U files, or a data set of their columns."""
    files = {split: sorted(Path(options.data).glob(f"*-{part}.conllu")) for split, part in PARTS.items()}
    if all(files.values()):
        loaded = {split: Dataset.from_list(list(read_conllu(found[0]))) for split, found in files.items()}
    else:
        loaded = load_dataset(options.data)
    columns = ["tokens", "upos", "xpos", "head", "deprel"]
    splits = {split: list(some(loaded[split], options).select_columns(columns)) for split in PARTS}
    tag = loaded["train"].features["upos"].feature
    if isinstance(tag, ClassLabel):
        for row in chain(*splits.values()):
            row["upos"] = tag.int2str(row["upos"])
    return splits


def some(rows: Dataset, options: Namespace) -> Dataset:
    """All rows, or `max_rows` of them from all over the split."""
    if options.max_rows is None:
        return rows
    return rows.select(range(0, len(rows), max(1, len(rows) // options.max_rows))[: options.max_rows])


def trained_tokenizer(texts: Any, options: Namespace) -> PreTrainedTokenizerBase:
    """Byte-level BPE of the training texts."""
    given = list(texts)
    settings = DataSettings(dataset=options.data, tokenizer_vocab_size=options.vocabulary)
    return train_tokenizers(settings, Dataset.from_dict({"source": given, "target": given})).source


def shares(splits: Splits, answers: Callable[[Row], Iterator[bool]]) -> dict[str, float]:
    """Percentage of right answers on validation and test."""
    found = {split: [right for row in splits[split] for right in answers(row)] for split in ("validation", "test")}
    return {split: 100 * sum(right) / len(right) for split, right in found.items()}


@torch.no_grad()
def nearest(encoder: nn.Module, task: Task) -> float:
    """Percentage of test rows with the label of the training row whose mean state is nearest by its cosine."""
    means, labels = {}, {}
    for split in ("train", "test"):
        rows = task.rows[split]
        batches = [collate(rows[start : start + 64]) for start in range(0, len(rows), 64)]
        labels[split] = torch.cat([batch.pop("labels") for batch in batches])
        # States are zeros at padding, and the cosine does not ask for the length of a mean.
        sums = [encoder(**batch).last_hidden_state.sum(1) for batch in batches]
        means[split] = nn.functional.normalize(torch.cat(sums), dim=-1)
    found = labels["train"][(means["test"] @ means["train"].T).argmax(-1)]
    return 100 * float((found == labels["test"]).float().mean())


MAKERS = {task.__name__: task for task in (tokens, sequence, question, language)}
