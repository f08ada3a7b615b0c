"""Heads are checked to be a tree, and controls are trees."""

import subprocess
import sys
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfattn_hf.data import heads as module
from selfattn_hf.data.heads import TreeError, chain, check_heads, flat, random_heads


def is_tree(heads):
    """Brute force: one root that points to itself, and every way up ends there."""
    roots = [place for place, head in enumerate(heads) if head == place]
    if len(roots) != 1:
        return False
    for place in range(len(heads)):
        for _ in heads:
            place = heads[place]
        if place != roots[0]:
            return False
    return True


def test_heads_of_universal_dependencies_count_from_nought_with_the_root_its_own():
    words = ["the", "old", "cats", "sleep"]
    assert check_heads(["3", "3", "4", "0"], words) == check_heads([3, 3, 4, 0], words) == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["2", "3", "2"], "none of its 3 words has the head 0"),
        (["0", "1", "0"], r"word 1 \('a'\) and word 3 \('c'\) have the head 0, and a tree has one root"),
        (["0", "4", "1"], r"word 2 \('b'\) has the head 4, and there are 3 words"),
        (["0", "2", "1"], r"word 2 \('b'\) is its own head"),
        (["0", "3", "2"], r"word 2 \('b'\) is above itself, and a tree has no circle"),
        (["0", "None", "1"], r"word 2 \('b'\) has the head 'None', which is no number.*multi-word token"),
        (["0", "_", "1"], r"word 2 \('b'\) has the head '_'"),
        (["0", None, "1"], r"word 2 \('b'\) has the head None"),
        (["0", -1, "1"], r"word 2 \('b'\) has the head -1"),
        (["0", True, "1"], r"word 2 \('b'\) has the head True"),
        (["0", 1.0, "1"], r"word 2 \('b'\) has the head 1.0"),
        (["0", "²", "1"], r"word 2 \('b'\) has the head '²'"),
        (["0", "1"], "its 3 words need a list of as many heads, and 2 are given"),
        (["0", "1", "1", "1"], "its 3 words need a list of as many heads, and 4 are given"),
        (None, "its 3 words need a list of as many heads, and None is given"),
        ("011", "its 3 words need a list of as many heads, and '011' is given"),
    ],
)
def test_what_is_no_tree_is_refused_by_its_word(heads, message):
    with pytest.raises(TreeError, match=message) as caught:
        check_heads(heads, ["a", "b", "c"])
    assert caught.value.reason == "broken tree"


def test_of_all_heads_over_four_words_exactly_the_trees_are_taken():
    words, taken = list("abcd"), 0
    for heads in product(range(5), repeat=4):
        zero_based = [place if head == 0 else head - 1 for place, head in enumerate(heads)]
        # A word that names itself is no root: the root is written as 0.
        named_itself = any(head == place + 1 for place, head in enumerate(heads))
        if is_tree(zero_based) and not named_itself:
            assert check_heads(heads, words) == zero_based
            taken += 1
        else:
            with pytest.raises(TreeError):
                check_heads(heads, words)
    assert taken == 4**3, "Cayley: n^(n-1) rooted trees over n words"


@pytest.mark.parametrize("length", [1, 2, 7])
def test_chain_and_flat_are_trees_of_their_shape(length):
    assert chain(length) == [0, *range(length - 1)]
    assert flat(length) == [0] * length
    assert is_tree(chain(length)) and is_tree(flat(length))


def test_no_words_have_no_heads():
    assert chain(0) == flat(0) == random_heads(0, 5) == []


@settings(max_examples=100, deadline=None, derandomize=True)
@given(length=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_a_random_tree_is_a_tree_and_the_same_again(length, seed):
    heads = random_heads(length, seed)
    assert len(heads) == length and is_tree(heads)
    assert random_heads(length, seed) == heads


def test_every_tree_over_three_words_is_drawn_as_often():
    drawn = Counter(tuple(random_heads(3, seed)) for seed in range(9000))
    assert len(drawn) == 9
    assert all(850 < count < 1150 for count in drawn.values()), drawn


def test_a_random_tree_is_the_same_in_another_process():
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['random_heads'](12, 77))"
    seen = set()
    for seed in ("1", "2"):
        call = [sys.executable, "-c", code, module.__file__]
        done = subprocess.run(call, capture_output=True, text=True, env={"PYTHONHASHSEED": seed})
        seen.add(done.stdout.strip())
    assert seen == {str(random_heads(12, 77))}
