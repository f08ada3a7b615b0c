"""The tree of every SCAN command, against the grammar read in the other direction."""

from itertools import product

import pytest

from selfattn_hf.data import DataSettings, load_splits
from selfattn_hf.data.grammar import scan_heads
from selfattn_hf.data.heads import TreeError

# The grammar makes phrases: (words, heads inside the phrase, place of the head word).
WORD = {word: ([word], [0], 0) for word in ("walk", "look", "run", "jump", "turn", "left", "right")}


def under(middle, left, right):
    """A phrase whose head word stands between two others (the right one may be missing)."""
    words, heads = [*left[0], middle], [*left[1], len(left[0])]
    heads[left[2]] = len(left[0])
    if right is not None:
        start = len(words)
        words, heads = [*words, *right[0]], [*heads, *(start + head for head in right[1])]
        heads[start + right[2]] = len(left[0])
    return words, heads, len(left[0])


def all_commands():
    verbs = [WORD[word] for word in ("walk", "look", "run", "jump")]
    directions = [WORD["left"], WORD["right"]]
    phrases = list(verbs)
    for verb, direction in product([*verbs, WORD["turn"]], directions):
        phrases.append(under(direction[0][0], verb, None))
        phrases.extend(under(manner, verb, direction) for manner in ("opposite", "around"))
    clauses = [*phrases, *(under(times, phrase, None) for phrase in phrases for times in ("twice", "thrice"))]
    yield from clauses
    for left, joint, right in product(clauses, ("and", "after"), clauses):
        yield under(joint, left, right)


def test_every_command_of_the_grammar_has_its_tree():
    seen = set()
    for words, heads, _ in all_commands():
        assert scan_heads(words) == heads, words
        seen.add(" ".join(words))
    assert len(seen) == 20910, "as many as SCAN has"


def test_the_word_that_acts_on_a_phrase_is_its_head():
    words = ["jump", "around", "left", "twice", "after", "turn", "opposite", "right"]
    names = {word: words[head] for word, head in zip(words, scan_heads(words), strict=True)}
    assert names == {
        "jump": "around", "left": "around", "around": "twice", "twice": "after", "after": "after",
        "turn": "opposite", "right": "opposite", "opposite": "after",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn", "ends after 1 words, where a SCAN command has left or right or opposite or around"),
        ("walk around", "ends after 2 words, where a SCAN command has left or right"),
        ("walk and", "ends after 2 words, where a SCAN command has walk or"),
        ("fly left", "word 1 is 'fly'"),
        ("walk quickly", "word 2 is 'quickly', where a SCAN command has and or after"),
        ("walk opposite twice", "word 3 is 'twice', where a SCAN command has left or right"),
        ("jump twice thrice", "word 3 is 'thrice'"),
        ("walk and run after jump", r"word 4 \('after'\) follows a whole SCAN command"),
        ("left", "word 1 is 'left'"),
        ("Walk", "word 1 is 'Walk'"),
        ("", "ends after 0 words"),
    ],
)
def test_what_is_no_command_is_refused_by_its_word(text, message):
    with pytest.raises(TreeError, match=message) as caught:
        scan_heads(text.split())
    assert caught.value.reason == "no SCAN command"


@pytest.mark.parametrize("config", ["simple", "length", "length_cutoff_26", "addprim_jump"])
def test_every_command_of_the_published_splits_has_its_tree(real_data, config):
    trees = {" ".join(words): heads for words, heads, _ in all_commands()}
    columns = {"source_column": "commands", "target_column": "actions"}
    splits = load_splits(DataSettings(dataset=str(real_data / "scan"), dataset_config=config, **columns))
    commands = {text for rows in splits.values() for text in rows["source"]}
    assert len(commands) > 20000
    assert {text: scan_heads(text.split()) for text in commands} == {text: trees[text] for text in commands}
