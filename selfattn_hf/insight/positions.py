"""What a position encoding does, asked of the module that a model has: its doors, its costs, and where it fits.

Nothing here knows an encoding by its name but `none`, which the others are compared with: a new one is measured as
soon as the config has its word.
"""

import dataclasses
import functools
from collections import Counter
from typing import Any, get_args

import torch
from torch import Tensor

from ..model import Places, SelfAttnConfig, SelfAttnEncoderModel, Tree

# Sizes of which all products differ, so that the shape of a parameter says what it is made of.
LETTERS = {"D": 46, "H": 7, "d": 10, "T": 101, "k": 53, "n": 12}
SIZES = {"hidden_size": "D", "num_attention_heads": "H", "head_dim": "d", "max_position_embeddings": "T",
         "relative_max_distance": "k", "relative_num_buckets": "n"}  # fmt: skip
ROW = 256  # tokens of the row that memory is measured with
FAR = 1000  # a place behind those in which `fire` is still relative


@dataclasses.dataclass(frozen=True)
class Encoding:
    """A position encoding as an encoder has it.

    Attributes:
        module: the encoding itself, fresh or trained: `model.get_encoder().position`.
        config: of the model.
    """

    module: Any
    config: SelfAttnConfig

    def places(self, length: int, shift: int = 0, tree: Tree | None = None) -> Places:
        """A row of `length` tokens from place `shift` on; under `tree`, or a chain where the encoding needs a tree."""
        if tree is None and self.config.reads_trees:
            tree = Tree(chain(length))
        counted = Places.count((1, length), torch.device("cpu"), past=shift)
        return dataclasses.replace(counted, keys=counted.queries, tree=tree)

    @torch.no_grad()
    def vectors(self, places: Places) -> Tensor:
        """What joins a token at each place: [S, D], zeros where nothing does."""
        return self.module.embed(torch.zeros(1, places.shape[1], self.config.hidden_size), places)[0]

    @torch.no_grad()
    def turned(self, heads: Tensor, places: Places) -> Tensor:
        """Queries or keys [H, S, d] as their places turn them."""
        return self.module.rotate(heads[None], places)[0]

    @torch.no_grad()
    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor | None:
        """What is added to the affinities of queries and keys [H, S, d]: [H, S, S] or None."""
        bias = self.module.bias(queries[None], keys[None], places)
        return None if bias is None else bias[0]

    def equal_words(self, length: int, seed: int = 0) -> Tensor:
        """Queries or keys of a row in which one word stands everywhere: [H, S, d], standard normal numbers."""
        generator = torch.Generator().manual_seed(seed)
        one = torch.randn(self.config.num_attention_heads, 1, self.config.head_width, generator=generator)
        return one.expand(-1, length, -1)

    def added(self, places: Places) -> Tensor:
        """What order adds to the affinities of equal words in the first head: [S, S], zeros where nothing does.

        The product p(i) . p(j) of vectors that join embeddings, the change of q . k by turning, and the bias.
        """
        vectors, heads = self.vectors(places), self.equal_words(places.shape[1])
        return vectors @ vectors.T + (self._affinities(heads, places) - heads @ heads.transpose(1, 2))[0]

    def doors(self) -> list[str]:
        """Which doors are open, by what passes through them."""
        places, heads = self.places(4, shift=1), self.equal_words(4)
        opened = {
            "embed": bool(self.vectors(places).any()),
            "rotate": not torch.equal(self.turned(heads, places), heads),
            "bias": self.bias(heads, heads, places) is not None,
        }
        return [door for door, is_open in opened.items() if is_open]

    def depends_on(self) -> list[str]:
        """What changes what the encoding does: tree, place, distance, query, key."""
        length = 6
        here, one, other = self.places(length), self.equal_words(length), self.equal_words(length, seed=1)
        far = self.places(length, shift=(self.config.known_places("encoder") or FAR) - length)
        turned_round = dataclasses.replace(here, queries=here.queries.flip(1))
        chained, flat = (dataclasses.replace(here, tree=Tree(heads)) for heads in (chain(length), chain(length) * 0))
        bias = self.bias(one, one, here)
        changes = {
            "tree": _differ(self.vectors(chained), self.vectors(flat))
            or _differ(self._affinities(one, chained), self._affinities(one, flat)),
            "place": _differ(self.vectors(here), self.vectors(far))
            or _differ(self._affinities(one, here), self._affinities(one, far)),
            "distance": _differ(self._affinities(one, here), self._affinities(one, here, turned_round)),
            "query": _differ(bias, self.bias(other, one, here)),
            "key": _differ(bias, self.bias(one, other, here)),
        }
        return [what for what, does in changes.items() if does]

    def parameters(self) -> int:
        """Number of its parameters, for one side of the model."""
        return sum(weight.numel() for weight in self.module.parameters())

    def _affinities(self, heads: Tensor, asking: Places, asked: Places | None = None) -> Tensor:
        """Of vectors [H, S, d] at the places `asking` with the same at the places `asked`: [H, S, S]."""
        asked = asking if asked is None else asked
        product = self.turned(heads, asking) @ self.turned(heads, asked).transpose(1, 2)
        bias = self.bias(heads, heads, dataclasses.replace(asking, keys=asked.queries))
        return product if bias is None else product + bias


def names() -> list[str]:
    """The words that `position_encoding` accepts."""
    return words("position_encoding")


def words(field: str) -> list[str]:
    """The words of a field of the config that takes one of them, or a list."""
    one_word, _ = get_args(SelfAttnConfig.__dataclass_fields__[field].type)
    return list(get_args(one_word))


def encoding_of(name: str | list[str], seed: int = 0, **switches: Any) -> Encoding:
    """The encoding of a fresh model's encoder.

    Args:
        name: one of `names()`, or several that act together.
        seed: of the fresh weights.
        **switches: fields of the config.

    Examples:
        >>> encoding_of("alibi", num_attention_heads=4).doors()
        ['bias']
    """
    config = encoder_config(name, **switches)
    return Encoding(fresh_model(config, seed).encoder.position, config)


def sized(name: str, **sizes: int) -> Encoding:
    """The encoding of a fresh model of these sizes, without those that would do nothing beside it."""
    every = encoder_config([other for other in names() if other != "none"], **sizes)
    config = every.with_switches(encoder_position_encoding=name)
    return Encoding(fresh_model(config).encoder.position, config)


def encoder_config(name: str | list[str], **switches: Any) -> SelfAttnConfig:
    """A config with this encoding in an encoder that has little else."""
    small = {"vocab_size": 8, "intermediate_size": 4, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    return SelfAttnConfig(**small | switches, position_encoding="none", encoder_position_encoding=name)


def fresh_model(config: SelfAttnConfig, seed: int = 0) -> SelfAttnEncoderModel:
    """An encoder with fresh weights; random numbers drawn elsewhere stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SelfAttnEncoderModel(config).eval()


def chain(length: int) -> Tensor:
    """Heads [1, S] of a row in which every token depends on the one before."""
    return (torch.arange(length)[None] - 1).clamp(min=0)


def formula(name: str) -> str:
    """Its number of parameters for one side, in the letters of `LETTERS`: `(2k+1)·d`."""
    terms: Counter[tuple[str, ...]] = Counter()
    sizes = {field: LETTERS[letter] for field, letter in SIZES.items()}
    for weight in sized(name, **sizes).module.parameters():
        factors = [factor for size in weight.shape for factor in _factors(size)]
        number = next((int(factor) for factor in factors if factor.isdigit()), 1)
        letters = [factor for factor in factors if not factor.isdigit()]
        terms[tuple(sorted(letters, key=lambda letter: ["(2k+1)", *LETTERS].index(letter)))] += number
    shown = ["·".join([*([str(count)] if count > 1 or not term else []), *term]) for term, count in terms.items()]
    return " + ".join(sorted(shown, key=lambda term: (term.isdigit(), term))) or "0"


def fits(name: str) -> dict[str, list[str]]:
    """The mixers that it goes with on each side, by asking the config; a side that has none is left out."""
    found = {
        side: [mixer for mixer in words(f"{side}_mixer") if _is_legal(side, mixer, name)]
        for side in ("encoder", "decoder")
    }
    return {side: mixers for side, mixers in found.items() if mixers}


def kept(name: str, length: int = ROW) -> float:
    """MiB that the default encoder keeps for the backward pass of a row, beyond those that it keeps without order."""
    return _kept(name, length) - _kept("none", length)


@functools.cache
def _kept(name: str, length: int) -> float:
    # One layer's weights in all places of the stack: what is kept is the same, and there is less to draw.
    config = encoder_config(name, encoder_layers=SelfAttnConfig.encoder_layers, share_layers=True)
    model = fresh_model(config).train()
    storages: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    trees = {"syntax_heads": chain(length)} if config.reads_trees else {}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=torch.full((1, length), 5), **trees)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    return sum(storage.nbytes() for place, storage in storages.items() if place not in weights) / 2**20


def _factors(size: int) -> list[str]:
    """A size as a letter, 2k+1, H·d, or the number that it is."""
    known = {number: [letter] for letter, number in LETTERS.items()}
    known |= {2 * LETTERS["k"] + 1: ["(2k+1)"], LETTERS["H"] * LETTERS["d"]: ["H", "d"]}
    return known.get(size, [str(size)])


def _is_legal(side: str, mixer: str, name: str) -> bool:
    fields = {f"{side}_mixer": mixer, f"{side}_position_encoding": name, "position_encoding": "none"}
    try:
        SelfAttnConfig(**fields)
    except ValueError:
        return False
    return True


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and not torch.allclose(one, other, atol=1e-3)
