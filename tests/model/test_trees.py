"""Depth, branches and distances in a tree, against a walk from node to node; what is no tree is refused by name."""

import pytest
import torch
from datasets import load_dataset

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.model.contracts import Places
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.model.trees import Tree, check_tree


def random_tree(size, generator):
    """Heads of a tree over tokens in any order: every token but the first in a random order hangs on an earlier one."""
    order = torch.randperm(size, generator=generator).tolist()
    heads = [0] * size
    for rank, token in enumerate(order):
        earlier = int(torch.randint(max(rank, 1), (1,), generator=generator))
        heads[token] = token if rank == 0 else order[earlier]
    return heads


def up(heads, token):
    """The way from a token to the root, both included."""
    way = [token]
    while heads[way[-1]] != way[-1]:
        way.append(heads[way[-1]])
    return way


def walk(heads, i, j):
    """Signed distance by definition: meet at the lowest common node."""
    ups, downs = up(heads, i), up(heads, j)
    meeting = next(node for node in ups if node in downs)
    steps = ups.index(meeting) + downs.index(meeting)
    if meeting == i:
        return steps
    return -steps if meeting == j else steps * (1 if j > i else -1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 33])
def test_depth_distance_and_branch_equal_a_walk_from_node_to_node(size):
    generator = torch.Generator().manual_seed(size)
    rows = [random_tree(size, generator) for _ in range(4)]
    tree = Tree(torch.tensor(rows))
    for row, heads in enumerate(rows):
        for i in range(size):
            assert tree.depth[row, i] == len(up(heads, i)) - 1
            siblings = [token for token in range(size) if heads[token] == heads[i] and heads[token] != token]
            assert tree.branch[row, i] == (0 if heads[i] == i else siblings.index(i) + 1)
            for j in range(size):
                assert tree.distance[row, i, j] == walk(heads, i, j)


def test_a_sum_over_the_way_up_equals_a_loop():
    generator = torch.Generator().manual_seed(0)
    heads = random_tree(13, generator)
    x = torch.randn(1, 13, 5, generator=generator, dtype=torch.float64)
    decay = torch.rand(5, generator=generator, dtype=torch.float64)
    total = Tree(torch.tensor([heads])).sum_upwards(x, decay)
    for i in range(13):
        expected = sum(decay**k * x[0, node] for k, node in enumerate(up(heads, i)))
        torch.testing.assert_close(total[0, i], expected, atol=1e-12, rtol=1e-12)


def test_parts_of_a_word_share_its_node_and_the_outside_has_no_place():
    # One word of two parts (0, 1), its root is 3; token 4 stands outside.
    heads, nodes = torch.tensor([[3, 0, 3, 3, -1]]), torch.tensor([[0, 0, 2, 3, -1]])
    check_tree(heads, nodes, (1, 5))
    tree = Tree(heads, nodes)
    assert tree.depth.tolist() == [[1, 1, 1, 0, 0]]
    assert tree.branch.tolist() == [[1, 1, 2, 0, 0]]
    assert tree.distance[0].tolist() == [
        [0, 0, 2, -1, 0], [0, 0, 2, -1, 0], [-2, -2, 0, -1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip


def test_parts_of_trees_have_the_distances_of_the_whole():
    generator = torch.Generator().manual_seed(3)
    tree = Tree(torch.tensor([random_tree(9, generator) for _ in range(2)]))
    queries, keys = torch.tensor([[0, 1, 2], [6, 7, 8]]), torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8]])
    blocks = tree.blocks(queries, keys).distance
    for row in range(2):
        for n in range(2):
            expected = tree.distance[row][queries[n]][:, keys[n]]
            assert torch.equal(blocks[row * 2 + n], expected)


def chain(length):
    return torch.tensor([[max(i - 1, 0) for i in range(length)]])


def test_on_a_chain_tree_depth_is_sinusoidal_and_tree_relative_is_shaw_bit_for_bit(make_config):
    config = make_config(relative_max_distance=5, encoder_position_encoding="tree_relative")
    x = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(0))
    places = Places.count((1, 20), torch.device("cpu"))
    by_tree = Places(places.queries, places.keys, places.shape, tree=Tree(chain(20)))
    sinusoidal, depth = (POSITIONS[name](config, False) for name in ("sinusoidal", "tree_depth"))
    assert torch.equal(depth.embed(x, by_tree), sinusoidal.embed(x, places))
    shaw, relative = (POSITIONS[name](config, False) for name in ("shaw", "tree_relative"))
    relative.load_state_dict(shaw.state_dict())
    heads = x.unflatten(-1, (4, 4)).transpose(1, 2)
    assert torch.equal(relative.bias(heads, heads, by_tree), shaw.bias(heads, heads, places))


@pytest.mark.parametrize("tree, place", [("tree_depth", "sinusoidal"), ("tree_relative", "shaw")])
def test_a_whole_model_on_a_chain_is_the_model_without_syntax_bit_for_bit(tree, place, make_model, batch):
    by_tree = make_model(torch.float32, encoder_position_encoding=tree, decoder_position_encoding="none")
    by_place = make_model(torch.float32, encoder_position_encoding=place, decoder_position_encoding="none")
    by_place.load_state_dict(by_tree.state_dict())
    source = batch["source"][0][None]
    expected = by_place(input_ids=source, decoder_input_ids=source).logits
    got = by_tree(input_ids=source, decoder_input_ids=source, syntax_heads=chain(7)).logits
    assert torch.equal(got, expected)
    other = by_tree(input_ids=source, decoder_input_ids=source, syntax_heads=torch.zeros(1, 7, dtype=torch.long))
    assert (other.logits - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("heads", "nodes", "words"),
    [
        ([[0, 0, 1], [1, 0, -1]], None, ["one root", "row 1", "has 0"]),
        ([[0, 1, 1], [0, 0, 0]], None, ["one root", "row 0", "has 2 (tokens [0, 1])"]),
        ([[0, 0, 1], [0, 2, 1]], None, ["cycle", "at token 1 of row 1"]),
        ([[0, 0, 3], [0, 0, 0]], None, ["from -1 to 2", "got 3 at token 2 of row 0"]),
        ([[0, 0, 0], [0, -2, 0]], None, ["from -1 to 2", "got -2 at token 1 of row 1"]),
        ([[0, 0], [0, 0]], None, ["expected shape (2, 3)", "(2, 2)"]),
        ([[0, 0, 0], [0, 0, -1]], [[0, 1, 2], [0, 1, 2]], ["exactly where syntax_heads is", "token 2 of row 1"]),
        ([[0, 0, 0], [0, 0, 1]], [[0, 1, 2], [0, 0, 1]], ["a node stands for itself", "token 2 of row 1"]),
        ([[0, 0, -1], [0, 0, 1]], None, None),
        ([[0, -1, -1], [-1, -1, -1]], None, None),
        ([[0, -1, 1], [0, 0, 0]], None, ["the head of a word", "got 1 at token 2 of row 0"]),
        ([[0, 0, 1], [0, 0, 0]], [[0, 0, 2], [0, 1, 2]], ["the head of a word", "got 1 at token 2 of row 0"]),
    ],
)
def test_what_is_no_tree_is_refused_with_its_row(heads, nodes, words):
    heads, nodes = torch.tensor(heads), None if nodes is None else torch.tensor(nodes)
    if words is None:
        check_tree(heads, nodes, (2, 3))
        return
    with pytest.raises(ValueError) as error:
        check_tree(heads, nodes, (2, 3))
    for word in words:
        assert word in str(error.value)


def test_trees_are_asked_for_and_refused_where_nothing_reads_them(make_config, batch):
    source = batch["source"][0][None]
    model = SelfAttnForConditionalGeneration(make_config(encoder_position_encoding="tree_path"))
    with pytest.raises(ValueError, match="'tree_path' reads a tree.*Give syntax_heads"):
        model(input_ids=source, labels=source)
    with pytest.raises(ValueError, match="syntax_nodes says which tokens"):
        model(input_ids=source, labels=source, syntax_nodes=chain(7))
    with pytest.raises(ValueError, match="two|2 .tokens"):
        model(input_ids=source, labels=source, syntax_heads=torch.tensor([[0, 1, 1, 1, 1, 1, 1]]))
    plain = SelfAttnForConditionalGeneration(make_config())
    with pytest.raises(ValueError, match="syntax_heads would do nothing: the encoder's .* is sinusoidal"):
        plain(input_ids=source, labels=source, syntax_heads=chain(7))


@torch.no_grad()
def test_beam_search_repeats_the_trees(make_model, pad, batch):
    model = make_model(torch.float32, encoder_position_encoding=["tree_depth", "tree_relative"])
    source, mask = pad(batch["source"][:2])
    heads = torch.tensor([[0, 0, 1, 1, 0, 4, -1], [3, 3, 3, 3, -1, -1, -1]])
    settings = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False}
    together = model.generate(source, attention_mask=mask, syntax_heads=heads, **settings)
    for row, length in enumerate((7, 4)):
        alone = model.generate(source[row : row + 1, :length], syntax_heads=heads[row : row + 1, :length], **settings)
        assert torch.equal(together[row, : alone.shape[1]], alone[0])


@pytest.mark.slow
def test_every_tree_of_ud_english_ewt_dev_equals_the_walk(real_data):
    # Multi-word tokens have no head of their own, and are no part of the tree.
    rows = load_dataset(str(real_data / "ud_english_ewt"), split="validation")["head"]
    for row in rows:
        given = [head for head in row if head.isdigit()]
        heads = [index if head == "0" else int(head) - 1 for index, head in enumerate(given)]
        check_tree(torch.tensor([heads]), None, (1, len(heads)))
        tree = Tree(torch.tensor([heads]))
        ways = [up(heads, i) for i in range(len(heads))]
        assert tree.depth[0].tolist() == [len(way) - 1 for way in ways]
        expected = torch.zeros(len(heads), len(heads), dtype=torch.long)
        for i in range(len(heads)):
            for j in range(len(heads)):
                meeting = next(node for node in ways[i] if node in ways[j])
                steps = ways[i].index(meeting) + ways[j].index(meeting)
                sign = 1 if meeting == i else -1 if meeting == j else (1 if j > i else -1)
                expected[i, j] = sign * steps
        assert torch.equal(tree.distance[0], expected)
    assert len(rows) == 2001
