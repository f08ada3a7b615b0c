"""Samplers: every row once, within the budget, alike in length, and the same again after a stop."""

import numpy as np
import pytest
from accelerate import skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader

from selfattn_hf.data import LengthGroupedSampler, TokenBudgetBatchSampler

LENGTHS = [(int(source), int(target)) for source, target in np.random.default_rng(0).integers(2, 40, (500, 2))]


def padded(lengths, batch):
    return len(batch) * (max(lengths[row][0] for row in batch) + max(lengths[row][1] for row in batch))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60),
    budget=st.integers(60, 300),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_every_row_comes_once_and_no_batch_is_over_the_budget(lengths, budget, seed, epoch):
    sampler = TokenBudgetBatchSampler(lengths, budget, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(padded(lengths, batch) <= budget for batch in batches)


def test_batches_are_filled_and_hold_little_padding():
    batches = list(TokenBudgetBatchSampler(LENGTHS, 1000))
    real = sum(sum(pair) for pair in LENGTHS)
    assert real / sum(padded(LENGTHS, batch) for batch in batches) > 0.7
    random = np.random.default_rng(1).permutation(500).reshape(-1, 20).tolist()
    assert real / sum(padded(LENGTHS, batch) for batch in random) < 0.6


@pytest.mark.parametrize("make", [TokenBudgetBatchSampler, LengthGroupedSampler])
def test_the_order_is_decided_by_seed_and_epoch_alone(make):
    def order(seed, epoch):
        sampler = make(LENGTHS, 200, seed)
        sampler.set_epoch(epoch)
        np.random.seed(seed * 7 + epoch)  # the global state must not matter
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1) and order(0, 1) != order(1, 0)


def test_the_number_of_batches_is_the_same_in_every_epoch():
    sampler = TokenBudgetBatchSampler(LENGTHS, 300)
    counts = set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        counts.add(len(list(sampler)))
    assert counts == {len(sampler)}


def test_a_row_over_the_budget_alone_is_refused_by_number():
    with pytest.raises(ValueError, match="row 2 has 70 source and 40 target tokens, more than batch_tokens=100"):
        TokenBudgetBatchSampler([(3, 4), (50, 50), (70, 40)], 100)
    assert list(TokenBudgetBatchSampler([(3, 4), (50, 50)], 100))


def test_neighbours_have_similar_lengths_and_every_row_comes_once():
    sampler = LengthGroupedSampler(LENGTHS, 10, seed=3)
    order = list(sampler)
    assert sorted(order) == list(range(500)) and len(sampler) == 500
    totals = np.array([sum(LENGTHS[row]) for row in order]).reshape(-1, 10)
    assert np.ptp(totals, axis=1).mean() < 5
    unsorted = np.array([sum(pair) for pair in LENGTHS]).reshape(-1, 10)
    assert np.ptp(unsorted, axis=1).mean() > 30
    assert np.any(np.diff(totals[:, 0]) > 0) and np.any(np.diff(totals[:, 0]) < 0)  # batches come in no order of length


def test_a_smaller_last_batch_comes_last():
    sampler = LengthGroupedSampler(LENGTHS[:495], 10, seed=3)
    totals = [sum(LENGTHS[row]) for row in sampler]
    groups = [totals[start : start + 10] for start in range(0, 495, 10)]
    assert len(groups[-1]) == 5
    assert np.mean([max(group) - min(group) for group in groups]) < 5


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 505])
def test_any_number_of_rows_is_covered(rows):
    lengths = [5] * rows
    assert sorted(LengthGroupedSampler(lengths, 10)) == list(range(rows))


@pytest.mark.parametrize("grouped", [True, False])
def test_a_loader_that_skips_what_was_trained_gives_the_rest_of_the_epoch(grouped):
    def make_loader():
        if grouped:
            batches = BatchSampler(LengthGroupedSampler(LENGTHS, 10, seed=5), 10, drop_last=False)
            batches.sampler.set_epoch(2)
        else:
            batches = TokenBudgetBatchSampler(LENGTHS, 300, seed=5)
            batches.set_epoch(2)
        return DataLoader(list(range(500)), batch_sampler=batches, collate_fn=list)

    whole = list(make_loader())
    assert list(skip_first_batches(make_loader(), 7)) == whole[7:]


@pytest.mark.parametrize("make", [TokenBudgetBatchSampler, LengthGroupedSampler])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 10), "at least one row"),
        (([(1, 2, 3)], 10), "one .* per row"),
        (([(1, -2)], 10), "negative"),
        (([(1, 2)], 0), "from 1 on"),
        (([(1, 2)], 10, -1), "seed"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)
