"""From a tree of words to a tree of tokens: the mapping against character offsets, ends, odd tokenizers."""

from itertools import accumulate

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from selfattn_hf.data import DataSettings, Syntax, TreeError, encode_texts, load_splits, train_tokenizers
from selfattn_hf.data.encoding import tokens_over_words

SENTENCE = ["Two", "cats", "can't", "sleep", "outside", "in", "1984", "."]
HEADS = ["2", "4", "4", "0", "4", "7", "4", "4"]


def by_offsets(tokenizer, words, heads):
    """Brute force: the word of a token is the one in whose characters it ends; heads and nodes follow from that."""
    ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]  # a space belongs to the word after it
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True, return_special_tokens_mask=True)
    word_of = []
    for (_, end), special in zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True):
        word_of.append(None if special else next(number for number, stop in enumerate(ends) if end <= stop))
    first = [word_of.index(number) for number in range(len(words))]
    nodes = [-1 if word is None else first[word] for word in word_of]
    token_heads = []
    for place, word in enumerate(word_of):
        if word is None:
            token_heads.append(-1)
        elif place != first[word]:
            token_heads.append(first[word])
        else:
            token_heads.append(place if heads[word] == "0" else first[int(heads[word]) - 1])
    return encoded["input_ids"], token_heads, nodes


@pytest.mark.parametrize("kind", ["bpe", "unigram", "word"])
def test_tokens_take_the_place_of_their_word_in_the_tree(make_tokenizers, kind):
    tokenizer = make_tokenizers(tokenizer_type=kind).source
    (row,) = Syntax("column").encode(tokenizer, [SENTENCE], [HEADS])
    assert (row.input_ids, row.syntax_heads, row.syntax_nodes) == by_offsets(tokenizer, SENTENCE, HEADS)
    assert len(row.input_ids) > len(SENTENCE) + 1, "some words have several tokens"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "word"])
def test_every_sentence_of_a_treebank_is_mapped_as_its_characters_say(real_data, kind):
    settings = DataSettings(
        dataset=str(real_data / "ud_english_ewt"), source_column="tokens", target_column="text", syntax="column",
        tokenizer_type=kind, tokenizer_vocab_size=1000, max_train_rows=1000,
    )  # fmt: skip
    splits = load_splits(settings, ("train", "validation"))
    tokenizer = train_tokenizers(settings, splits["train"]).source
    rows = splits["validation"]
    assert len(rows) == 2001
    words, heads = list(rows["words"]), list(rows["heads"])
    for row, *given in zip(Syntax("column").encode(tokenizer, words, heads), words, heads, strict=True):
        assert (row.input_ids, row.syntax_heads, row.syntax_nodes) == by_offsets(tokenizer, *given)


def test_a_word_with_a_space_inside_is_one_node(make_tokenizers):
    tokenizer = make_tokenizers().source
    (row,) = Syntax("column").encode(tokenizer, [["1 000", "men"]], [[2, 0]])
    men = tokenizer("1 000 men")["input_ids"].index(tokenizer("men")["input_ids"][0])
    assert row.syntax_nodes == [0] * men + [men] * (len(row.input_ids) - men - 1) + [-1]
    assert row.syntax_heads[:2] == [men, 0] and row.syntax_heads[men] == men


def test_errors_stay_in_their_place_and_a_word_without_a_token_is_one(make_tokenizers):
    tokenizer = make_tokenizers().source
    broken = TreeError("broken before")
    rows = tokens_over_words(tokenizer, [(["a"], [0]), broken, (["men", ""], [0, 0]), (["a", "men"], [1, 1])])
    assert rows[1] is broken
    assert isinstance(rows[2], TreeError) and str(rows[2]) == "word 2 ('') has no token"
    assert rows[0].syntax_heads == [0, -1] and rows[3].syntax_nodes[-1] == -1
    assert tokens_over_words(tokenizer, [broken]) == [broken]


@pytest.mark.parametrize("name", ["grammar", "chain", "flat", "random"])
def test_a_tree_changes_nothing_about_the_ids(make_tokenizers, name):
    tokenizer = make_tokenizers().source
    texts = ["walk left twice", "jump", "run around right and look"]
    assert [row.input_ids for row in Syntax(name).encode(tokenizer, texts)] == encode_texts(tokenizer, texts)


@pytest.mark.parametrize(
    ("name", "heads"), [("chain", [0, 0, 1, 2, -1]), ("flat", [0, 0, 0, 0, -1]), ("grammar", [1, 2, 2, 2, -1])]
)
def test_a_control_is_a_tree_over_the_tokens(make_tokenizers, name, heads):
    if name == "grammar":
        texts, heads = ["walk left twice"], [1, 2, 2, -1]
    else:
        texts = ["men men men men"]
    tokenizer = make_tokenizers(tokenizer_type="word").source
    (row,) = Syntax(name).encode(tokenizer, texts)
    assert row.syntax_heads == heads
    assert row.syntax_nodes == [*range(len(heads) - 1), -1]


def test_a_random_tree_hangs_on_the_text_alone(make_tokenizers):
    tokenizer = make_tokenizers(tokenizer_type="word").source
    texts = ["men " * 11 + "men", "men " * 11 + "a", "men " * 11 + "men"]
    first, other, again = Syntax("random").encode(tokenizer, texts)
    assert first == again == Syntax("random").encode(tokenizer, texts[2:])[0]
    assert first.syntax_heads != other.syntax_heads
    assert sorted(first.syntax_nodes) == [-1, *range(12)]


def test_special_tokens_in_front_stand_in_no_tree(make_tokenizers):
    tokenizer = make_tokenizers(tokenizer_type="word").source
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    (chain,) = Syntax("chain").encode(tokenizer, ["men men"])
    assert chain.syntax_heads == [-1, 1, 1, -1] and chain.syntax_nodes == [-1, 1, 2, -1]
    (tree,) = Syntax("column").encode(tokenizer, [["men", "a"]], [[2, 0]])
    assert tree.syntax_heads == [-1, 2, 2, -1] and tree.syntax_nodes == [-1, 1, 2, -1]


@pytest.mark.parametrize(("name", "texts", "heads"), [("chain", ["men"], None), ("column", [["men"]], [[0]])])
def test_a_tokenizer_that_adds_no_end_token_gets_one_outside_the_tree(make_tokenizers, name, texts, heads):
    tokenizer = make_tokenizers(tokenizer_type="word").source
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    (row,) = Syntax(name).encode(tokenizer, texts, heads)
    assert row.input_ids[-1] == 2 and row.syntax_heads == row.syntax_nodes == [0, -1]


@pytest.mark.parametrize(
    ("template", "tokens"),
    [
        ("$A </s> <xx>", [" cats", "</s>", "<xx>"]),  # mBART's: the language comes last
        ("<xx> $A </s>", ["<xx>", " cats", "</s>"]),
        ("$A", [" cats", "</s>"]),
        ("$A <xx>", [" cats", "<xx>", "</s>"]),
    ],
)
def test_every_text_ends_once_wherever_its_language_is_marked(make_tokenizers, template, tokens):
    tokenizer = make_tokenizers(tokenizer_type="word").source
    tokenizer.add_special_tokens({"extra_special_tokens": ["<xx>"]})
    language = tokenizer.convert_tokens_to_ids("<xx>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=f"{template} $B", special_tokens=[("</s>", 2), ("<xx>", language)]
    )
    for target in (False, True):
        (ids,) = encode_texts(tokenizer, ["cats"], target=target)
        assert tokenizer.convert_ids_to_tokens(ids) == tokens


def test_a_tokenizer_that_runs_words_together_is_refused():
    glued = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    glued.pre_tokenizer, glued.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=glued, unk_token="<unk>", pad_token="<unk>", eos_token="<unk>")
    with pytest.raises(ValueError, match="runs the words of a list together.*add_prefix_space=True"):
        Syntax("column").encode(tokenizer, [["a", "a"]], [[0, 1]])
    assert Syntax("chain").encode(tokenizer, ["aa"])[0].syntax_heads == [0, 0, -1]


def test_a_tokenizer_that_cannot_tell_words_is_refused(make_tokenizers, monkeypatch):
    tokenizer = make_tokenizers().source
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="does not say which token belongs to which word.*tokenizer.json"):
        Syntax("grammar").encode(tokenizer, ["walk"])
    assert Syntax("flat").encode(tokenizer, ["walk"])


def test_no_texts_make_no_rows(make_tokenizers):
    assert Syntax("chain").encode(make_tokenizers().source, []) == []


def test_a_name_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="syntax must be one of column, grammar.*got 'chian'"):
        Syntax("chian")
