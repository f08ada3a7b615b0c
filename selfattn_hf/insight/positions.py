"""What a position encoding does, asked of the module that a model has: its doors, parameters, costs, and where it fits.

Nothing here knows the encodings by name but `REMARKS`: a new one is measured and drawn as soon as the config has its
word, and described as soon as it has a remark.
"""

import dataclasses
import inspect
import re
from collections import Counter
from typing import Any, get_args

import torch
from torch import Tensor

from ..model import Places, SelfAttnConfig, SelfAttnEncoderModel, Tree

# Beyond the rows that a model was trained on; and work in one pass, in the letters of `LETTERS`.
REMARKS: dict[str, tuple[str, str]] = {
    "none": ("no last place; no place is known at all", "nothing"),
    "sinusoidal": ("no last place; defined, but untrained", "S·D once"),
    "learned": ("raises: T is the last place", "S·D once"),
    "rope": ("no last place; larger angles are defined, but untrained", "H·S·d per layer"),
    "shaw": (
        "no last place; from k on all distances are one, trained where rows are longer",
        "H·S·k·d + H·S² per layer",
    ),
    "t5": ("no last place; from k on all distances are one, trained where rows are longer", "H·S² per layer"),
    "alibi": ("no last place; the line goes on, and nothing in it is trained", "H·S² per layer"),
    "transformer_xl": ("no last place; longer distances are defined, but untrained", "H·S²·d + S·D·H·d per layer"),
    "kerple": ("no last place; the curve goes on, its two numbers trained at any length", "H·S² per layer"),
    "fire": ("no last place; ratios stay from -1 to 1, all trained where rows are longer than L", "32·H·S² per layer"),
    "tree_depth": ("no last place; deeper trees are defined, but untrained", "S·D once"),
    "tree_path": (
        "no last place; deeper trees fade out, more children are defined, but untrained",
        "S² + S·D·log S once",
    ),
    "tree_relative": (
        "no last place; from k steps on all ways are one, trained where trees are larger",
        "S³ once, H·S·k·d + H·S² per layer",
    ),
}

# Sizes of which all products differ, so that the shape of a parameter says what it is made of.
LETTERS = {"D": 46, "H": 7, "d": 10, "T": 101, "k": 53, "n": 12}
SIZES = {"hidden_size": "D", "num_attention_heads": "H", "head_dim": "d", "max_position_embeddings": "T",
         "relative_max_distance": "k", "relative_num_buckets": "n"}  # fmt: skip
ROW = 256  # tokens of the row that memory is measured with


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One position encoding as a model has it.

    Attributes:
        name: its word in the config.
        module: fresh, drawn by the model's own initialization.
        config: of the model.
    """

    name: str
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

    def draw(self, length: int, seed: int = 0) -> Tensor:
        """A standard normal vector for every head, the same at every place: [H, S, d]."""
        generator = torch.Generator().manual_seed(seed)
        one = torch.randn(self.config.num_attention_heads, 1, self.config.head_width, generator=generator)
        return one.expand(-1, length, -1)

    def doors(self) -> list[str]:
        """Which doors are open, by what passes through them."""
        places, heads = self.places(4, shift=1), self.draw(4)
        opened = {
            "embed": bool(self.vectors(places).any()),
            "rotate": not torch.equal(self.turned(heads, places), heads),
            "bias": self.bias(heads, heads, places) is not None,
        }
        return [door for door, is_open in opened.items() if is_open]

    def depends_on(self) -> list[str]:
        """What changes what the encoding does: tree, place, distance, query, key."""
        length = 6
        here, one, other = self.places(length), self.draw(length), self.draw(length, seed=1)
        far = self.places(length, shift=1000)
        turned_round = dataclasses.replace(here, queries=here.queries.flip(1))
        chained, flat = (dataclasses.replace(here, tree=Tree(heads)) for heads in (chain(length), chain(length) * 0))
        bias = self.bias(one, one, here)
        changes = {
            "tree": _differ(self.vectors(chained), self.vectors(flat))
            or _differ(self._pairs(one, chained), self._pairs(one, flat)),
            "place": _differ(self.vectors(here), self.vectors(far))
            or _differ(self._pairs(one, here), self._pairs(one, far)),
            "distance": _differ(self._pairs(one, here), self._pairs(one, here, turned_round)),
            "query": _differ(bias, self.bias(other, one, here)),
            "key": _differ(bias, self.bias(one, other, here)),
        }
        return [what for what, does in changes.items() if does]

    def _pairs(self, heads: Tensor, asking: Places, asked: Places | None = None) -> Tensor:
        """Affinities of vectors [H, S, d] at the places `asking` with the same at the places `asked`: [H, S, S]."""
        asked = asking if asked is None else asked
        product = self.turned(heads, asking) @ self.turned(heads, asked).transpose(1, 2)
        bias = self.bias(heads, heads, dataclasses.replace(asking, keys=asked.queries))
        return product if bias is None else product + bias

    def parameters(self) -> int:
        """Number of its parameters, for one side of the model."""
        return sum(weight.numel() for weight in self.module.parameters())


def names() -> list[str]:
    """The words that `position_encoding` accepts."""
    one_word, _ = get_args(SelfAttnConfig.__dataclass_fields__["position_encoding"].type)
    return list(get_args(one_word))


def encoding_of(name: str, seed: int = 0, **switches: Any) -> Encoding:
    """The encoding of a fresh model's encoder.

    Args:
        name: one of `names()`.
        seed: of the fresh weights.
        **switches: fields of the config.
    """
    torch.manual_seed(seed)
    config = encoder_config(name, **switches)
    return Encoding(name, SelfAttnEncoderModel(config).eval().encoder.position, config)


def sized(name: str, sizes: dict[str, int]) -> Encoding:
    """The encoding of a fresh model of these sizes; those that would do nothing beside it are left out."""
    read = dict(sizes)
    for field in sizes:
        try:
            encoder_config(name, **{field: sizes[field]} if field.startswith("relative_") else {})
        except ValueError:
            del read[field]
    return encoding_of(name, **read)


def encoder_config(name: str, **switches: Any) -> SelfAttnConfig:
    """A config with this encoding in the encoder alone, where no other field would do nothing."""
    small = {"vocab_size": 8, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    return SelfAttnConfig(**small | switches, position_encoding="none", encoder_position_encoding=name)


def chain(length: int) -> Tensor:
    """Heads [1, S] of a row in which every token depends on the one before."""
    return (torch.arange(length)[None] - 1).clamp(min=0)


def formula(name: str) -> str:
    """Its number of parameters for one side, in letters: `(2k+1)·d`."""
    terms: Counter[tuple[str, ...]] = Counter()
    sizes = {field: LETTERS[letter] for field, letter in SIZES.items()}
    for weight in sized(name, sizes).module.parameters():
        number, letters = 1, list[str]()
        for size in weight.shape:
            factors = _factors(size)
            letters += [factor for factor in factors if not factor.isdigit()]
            number *= int(next((factor for factor in factors if factor.isdigit()), "1"))
        terms[tuple(sorted(letters, key=str.lower))] += number
    shown = ["·".join([*([str(count)] if count > 1 or not term else []), *term]) for term, count in terms.items()]
    return " + ".join(sorted(shown, key=lambda term: (term.isdigit(), term))) or "0"


def legal(name: str) -> str:
    """The sides and the mixers that it goes with, by asking the config."""
    (mixers, _), sides = get_args(SelfAttnConfig.__dataclass_fields__["encoder_mixer"].type), []
    found = {}
    for side in ("encoder", "decoder"):
        found[side] = [mixer for mixer in get_args(mixers) if _is_legal(side, mixer, name)]
        if found[side]:
            sides.append(side)
    fitting = found[sides[0]]
    which = "every mixer" if len(fitting) == len(get_args(mixers)) else ", ".join(fitting)
    return f"{' and '.join(sides)}; {which}"


def kept(name: str) -> float:
    """MiB that the default encoder keeps for the backward pass of a row of `ROW` tokens, beyond those without order."""
    return _kept(name) - _kept("none")


def _kept(name: str) -> float:
    config = encoder_config(name, encoder_layers=SelfAttnConfig.encoder_layers)
    model = SelfAttnEncoderModel(config).train()
    storages: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    trees = {"syntax_heads": chain(ROW)} if config.reads_trees else {}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=torch.full((1, ROW), 5), **trees)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    return sum(storage.nbytes() for place, storage in storages.items() if place not in weights) / 2**20


def described(name: str, memory: bool = True) -> dict[str, str]:
    """One row of the table: heading -> cell.

    Args:
        name: of the encoding.
        memory: measure memory too, which takes a pass through the default encoder.

    Raises:
        ValueError: for an encoding without a remark.
    """
    if name not in REMARKS:
        raise ValueError(
            f"position_encoding={name!r} has no remark: what happens beyond the rows of training, and the work of a "
            "pass, are not measured. Add both to REMARKS in selfattn_hf/insight/positions.py."
        )
    beyond, work = REMARKS[name]
    encoding = encoding_of(name)
    says = inspect.getdoc(type(encoding.module)) or ""
    paper = re.search(r"(After )?([A-Z][\w& ]+?(?: et al\.)? \(\d{4}\)),\s(https://[^\s,]+\w)", says)
    row = {
        "encoding": f"[`{name}`](#{name})",
        "formula": says.splitlines()[0] if encoding.doors() else "Nothing is added: a row of words is a set.",
        "paper": f"{(paper[1] or '').lower()}[{paper[2]}]({paper[3]})" if paper else "",
        "door": ", ".join(encoding.doors()) or "none",
        "depends on": ", ".join(encoding.depends_on()) or "nothing",
        "parameters": formula(name),
        "default model": f"{encoding.parameters():,}",
        "beyond the rows of training": beyond,
        "work": work,
    }
    if memory:
        row["MiB kept"] = f"{kept(name):.1f}"
    return row | {"legal in": legal(name)}


def table(memory: bool = True) -> str:
    """All encodings in Markdown, without a line end."""
    rows = [described(name, memory) for name in names()]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
