"""Batches: padding, the shift to the right, and ids that the model does not know."""

import pytest
import torch

from selfattn_hf.data import Seq2SeqCollator

ROWS = [{"input_ids": [7, 8, 2], "labels": [9, 2]}, {"input_ids": [5, 2], "labels": [4, 6, 7, 2]}]


@pytest.fixture
def collate():
    """Pads with 0, starts with 1, knows ten tokens."""
    return Seq2SeqCollator(0, decoder_start_token_id=1, vocab_size=10)


def test_a_batch_is_padded_and_shifted(collate):
    batch = collate(ROWS)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[7, 8, 2], [5, 2, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[9, 2, -100, -100], [4, 6, 7, 2]],
        "decoder_input_ids": [[1, 9, 2, 0], [1, 4, 6, 7]],
        "decoder_attention_mask": [[1, 1, 0, 0], [1, 1, 1, 1]],
    }
    assert all(tensor.dtype == torch.long for tensor in batch.values())


def test_the_decoder_reads_what_the_model_would_shift_itself(collate):
    from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

    config = SelfAttnConfig(
        vocab_size=10, hidden_size=8, encoder_layers=1, decoder_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = SelfAttnForConditionalGeneration(config)
    batch = collate(ROWS)
    assert torch.equal(batch["decoder_input_ids"], model.prepare_decoder_input_ids_from_labels(batch["labels"]))


def test_the_tokenizers_say_what_pads(make_tokenizers):
    tokenizers = make_tokenizers()
    tokenizers.source.pad_token = tokenizers.target.pad_token = "<unk>"
    batch = Seq2SeqCollator(tokenizers, 1, 400)(ROWS)
    assert batch["input_ids"].tolist() == [[7, 8, 2], [5, 2, 3]]


def test_a_real_token_with_the_id_of_the_padding_is_no_padding(collate):
    batch = collate([{"input_ids": [0, 5, 2], "labels": [0, 2]}])
    assert batch["attention_mask"].tolist() == [[1, 1, 1]]
    assert batch["decoder_attention_mask"].tolist() == [[1, 1]]


def test_lengths_go_up_to_a_multiple():
    batch = Seq2SeqCollator(0, 1, 10, pad_to_multiple_of=8)(ROWS)
    assert {name: tensor.shape for name, tensor in batch.items()} == dict.fromkeys(batch, (2, 8))


def test_rows_without_labels_and_with_other_columns_give_a_batch_to_generate_from(collate):
    assert set(collate([{"input_ids": [5, 2], "source": "text"}])) == {"input_ids", "attention_mask"}
    with pytest.raises(ValueError, match="1 of the 2 rows of a batch have labels"):
        collate([ROWS[0], {"input_ids": [5, 2]}])


def test_ignored_labels_inside_a_row_are_kept_and_not_read(collate):
    batch = collate([{"input_ids": [5, 2], "labels": [-100, 4, 2]}])
    assert batch["labels"].tolist() == [[-100, 4, 2]]
    assert batch["decoder_input_ids"].tolist() == [[1, 0, 4]]


@pytest.mark.parametrize("column", ["input_ids", "labels"])
@pytest.mark.parametrize("bad", [10, -1, -99])
def test_an_id_outside_the_vocabulary_is_named_with_the_limit(collate, column, bad):
    with pytest.raises(ValueError, match=rf"{column} of row 1 .* id {bad}, .* ids 0 to 9"):
        collate([ROWS[0], {**ROWS[1], column: [4, bad, 2]}])


def test_the_ignored_id_is_no_token_of_the_source(collate):
    with pytest.raises(ValueError, match="input_ids of row 0 .* id -100"):
        collate([{"input_ids": [-100, 2], "labels": [2]}])


def test_a_batch_without_anything_to_learn_is_refused(collate):
    with pytest.raises(ValueError, match="all labels of a batch of 1 rows are -100"):
        collate([{"input_ids": [5, 2], "labels": [-100, -100]}])


@pytest.mark.parametrize("column", ["input_ids", "labels"])
def test_an_empty_row_is_refused(collate, column):
    with pytest.raises(ValueError, match=f"row 1 of a batch has no {column}"):
        collate([ROWS[0], {**ROWS[1], column: []}])


TREES = [
    {**ROWS[0], "syntax_heads": [1, 1, -1], "syntax_nodes": [0, 1, -1]},
    {**ROWS[1], "syntax_heads": [0, -1], "syntax_nodes": [0, -1]},
]


def test_trees_are_padded_as_the_source_and_padding_is_in_none(collate):
    batch = collate(TREES)
    assert batch["syntax_heads"].tolist() == [[1, 1, -1], [0, -1, -1]]
    assert batch["syntax_nodes"].tolist() == [[0, 1, -1], [0, -1, -1]]
    assert batch["syntax_heads"].dtype == batch["syntax_nodes"].dtype == torch.long
    rest = {name: tensor.tolist() for name, tensor in batch.items() if not name.startswith("syntax")}
    assert rest == {name: tensor.tolist() for name, tensor in collate(ROWS).items()}
    wide = Seq2SeqCollator(0, 1, 10, pad_to_multiple_of=8)(TREES)
    assert wide["syntax_heads"].shape == wide["input_ids"].shape == (2, 8)
    assert wide["syntax_heads"][:, 3:].eq(-1).all()


def test_heads_may_come_without_nodes_and_trees_without_labels(collate):
    rows = [{name: row[name] for name in ("input_ids", "syntax_heads")} for row in TREES]
    assert set(collate(rows)) == {"input_ids", "attention_mask", "syntax_heads"}


@pytest.mark.parametrize("name", ["syntax_heads", "syntax_nodes"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0], r"of row 1 of a batch have shape \(1,\), and its source has 2 tokens"),
        ([[0, -1]], r"of row 1 of a batch have shape \(1, 2\)"),
        ([2, -1], "of row 1 of a batch hold 2, and the places of its tokens go from 0 to 1"),
        ([0, -2], "of row 1 of a batch hold -2"),
        (None, "1 of the 2 rows of a batch have"),
    ],
)
def test_heads_that_are_not_one_per_token_of_the_row_are_refused(collate, name, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        collate([TREES[0], {**TREES[1], name: values}])
    assert name in str(caught.value)


def test_no_rows_make_no_batch(collate):
    with pytest.raises(ValueError, match="at least one row"):
        collate([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, None, 10), "decoder_start_token_id is None"),
        ((0, 10, 10), "decoder_start_token_id=10 is outside the vocabulary: ids go from 0 to 9"),
        ((-1, 1, 10), "pad_token_id=-1 is outside"),
        ((0, 1, 10, 0), "pad_to_multiple_of must be at least 1"),
    ],
)
def test_a_collator_that_cannot_work_is_refused_when_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        Seq2SeqCollator(*arguments)
