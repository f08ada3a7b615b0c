"""The tables and sections of docs/positions.md, written from the modules themselves.

Formula and paper are those of a class's docstring, figures are asked of the module; what cannot be asked stands in
`REMARKS`, and an encoding without a remark is refused.
"""

import functools
import inspect
import re
from typing import NamedTuple

from ..model import SelfAttnConfig
from .positions import ROW, Encoding, encoding_of, fits, formula, kept, names, words

BEGIN = "<!-- From here on made by scripts/draw_positions.py; change the modules, not this text. -->"
END = "<!-- Up to here made by scripts/draw_positions.py. -->"


class Remark(NamedTuple):
    """What is known of an encoding and cannot be asked of its module.

    Attributes:
        beyond: what happens in rows longer than those of training, trees larger than those.
        work: of a pass, in the letters of the page.
        seen: what its picture shows.
    """

    beyond: str
    work: str
    seen: str


REMARKS = {
    "none": Remark(
        "nothing ends, because no place is known",
        "nothing",
        "The same six words in two orders, without order (left) and with `sinusoidal` (right): how far the state of "
        "each word of the first sentence (row) is from that of each word of the second (column). Without order a word "
        "has the same state wherever it stands. This holds in an encoder. In a decoder the future mask alone tells "
        "places apart, by how many tokens each of them sees: Haviv et al. (2022), https://arxiv.org/abs/2203.16634.",
    ),
    "sinusoidal": Remark(
        "defined, but untrained",
        "S·D once",
        "Near places have similar vectors, and how similar two of them are depends on their distance alone. The "
        "dimensions on the right turn so slowly that they hardly change within a sentence.",
    ),
    "learned": Remark(
        "raises: T is the last place",
        "S·D once",
        "Fresh vectors are all unlike each other. That place 5 stands next to place 6 has to be learned.",
    ),
    "tree_depth": Remark(
        "any length; deeper trees are defined, but untrained",
        "S·D once",
        "Words of one depth have one vector: it does not tell `the`, `old` and `a` apart, so it is best combined with "
        "an encoding of places.",
    ),
    "tree_path": Remark(
        "any length; far nodes above fade out; more children are defined, but untrained",
        "S² + S·D·log S once",
        "`the` and `old` are the first and the second child of one word, `the` and `a` first children of two: their "
        "ways up differ, and so do their vectors. Most of each vector is alike, because only the dimensions on the "
        "left turn fast enough to tell small numbers apart.",
    ),
    "rope": Remark(
        "defined; larger angles are untrained",
        "H·S·d per layer",
        "Left: the first pairs of dimensions turn fast, the last ones hardly at all. Middle and right: the affinity of "
        "a word with itself is highest at distance 0, then falls and swings, in each word in its own way, and the same "
        "wherever the two stand.",
    ),
    "shaw": Remark(
        "defined; distances from k on share a vector, which rows longer than k train",
        "H·S·k·d + H·S² per layer",
        "A number for each distance up to k (here 16) on both sides, and one for all that are farther. The heads have "
        "the same vectors, and each has its own query to multiply them by.",
    ),
    "t5": Remark(
        "defined; distances from k on share a number, which rows longer than k train",
        "H·S² per layer",
        "A number for each near distance; then ever more distances share one, and from k (here 16) on at the latest "
        "all do. Fresh numbers are random.",
    ),
    "alibi": Remark(
        "defined; the line goes on, and nothing in it is trained",
        "H·S² per layer",
        "The first head hardly looks beyond its neighbours, the last one looks far: a straight line with a slope for "
        "each head, fixed before training.",
    ),
    "transformer_xl": Remark(
        "defined; longer distances are untrained",
        "H·S²·d + S·D·H·d per layer",
        "Smooth in the distance, and not the same ahead and behind. A fresh W is random, and so are the distances that "
        "its heads prefer.",
    ),
    "kerple": Remark(
        "defined; the curve goes on, and rows of any length train its two numbers",
        "H·S² per layer",
        "As `alibi`, but it falls ever more slowly, and how fast is learned by each head.",
    ),
    "fire": Remark(
        "defined; ratios stay between -1 and 1, and rows longer than L train all of them",
        "32·H·S² per layer",
        "Behind place L (here 16 at the start) a distance counts by its share of the way from the row's start to the "
        "later of the two places: the same distance is less to a later query (right), so that long rows look like "
        "short ones.",
    ),
    "tree_relative": Remark(
        "any length; ways of k steps and more share a vector, which larger trees train",
        "S³ once, H·S·k·d + H·S² per layer",
        "Middle: from `dog` it is one step down to `the` (1), one up to `chased` (-1), and two to `cat` on another "
        "branch, which stands behind (2). Right: pairs as many steps apart get the same number, however far apart the "
        "words stand.",
    ),
}


def fill_position_page(page: str) -> str:
    """The page with its tables and sections made anew; the text around them stays.

    Raises:
        ValueError: if the page lacks one of the lines `BEGIN` and `END`, or an encoding has no remark.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for its tables: it needs the lines {BEGIN!r} and, below it, {END!r}.")
    return f"{before}{begin}\n\n{made()}\n\n{end}{after}"


def made() -> str:
    """Both tables and a section for each encoding, in Markdown."""
    overview = _table([overview_of(name) for name in names()])
    costs = _table([costs_of(name) for name in names()])
    sections = "\n\n".join(section_of(name) for name in names())
    legend = (
        f"Parameters: of one side of the default model (D = {SelfAttnConfig.hidden_size}, "
        f"H = {SelfAttnConfig.num_attention_heads}, {SelfAttnConfig.encoder_layers} layers). MiB kept: what its "
        f"encoder keeps in training for the backward pass of one row of {ROW} tokens, beyond what it keeps with `none`."
    )
    return f"{overview}\n\n## In numbers\n\n{legend}\n\n{costs}\n\n## One by one\n\n{sections}"


def overview_of(name: str) -> dict[str, str]:
    """Its row of the first table, heading -> cell: what it does."""
    text, remark = text_of(name), remark_of(name)
    paper = re.search(r"(After )?([A-Z][\w& ]+?(?: et al\.)? \(\d{4}\)),\s(https://[^\s,]+\w)", text)
    source = f"<br>{(paper[1] or '').lower()}[{paper[2]}]({paper[3]})" if paper else ""
    return {
        "encoding": f"[`{name}`](#{name})<br>![what {name} adds to affinities](positions/{name}_small.png)",
        "formula and paper": text.splitlines()[0] + source,
        "door": ", ".join(of_default_model(name).doors()) or "none",
        "beyond the rows of training": remark.beyond,
        "parameters": formula(name),
        "work of a pass": remark.work,
    }


def costs_of(name: str) -> dict[str, str]:
    """Its row of the second table, heading -> cell: figures of the default model, and where it fits."""
    encoding, sides = of_default_model(name), fits(name)
    mixers = next(iter(sides.values()))
    return {
        "encoding": f"[`{name}`](#{name})",
        "depends on": ", ".join(encoding.depends_on()) or "nothing",
        "parameters": f"{encoding.parameters():,}",
        "MiB kept": f"{kept(name):.0f}",
        "sides": " and ".join(sides),
        "mixers": "all" if mixers == words("encoder_mixer") else ", ".join(f"`{mixer}`" for mixer in mixers),
    }


def section_of(name: str) -> str:
    """What its class says, its picture, and what is seen in it."""
    return f"### `{name}`\n\n{text_of(name)}\n\n![{name}](positions/{name}.png)\n\n{remark_of(name).seen}"


@functools.cache
def of_default_model(name: str) -> Encoding:
    """The encoding as the default encoder has it, fresh."""
    return encoding_of(name)


def text_of(name: str) -> str:
    """What the docstring of its class says, formula first."""
    encoding = of_default_model(name)
    if not encoding.doors():
        return "Nothing is added: a row of words is a set."
    return inspect.getdoc(type(encoding.module)) or ""


def remark_of(name: str) -> Remark:
    """What is known of it and cannot be measured.

    Raises:
        ValueError: for an encoding without a remark.
    """
    if name not in REMARKS:
        raise ValueError(
            f"position_encoding={name!r} has no remark: what happens beyond the rows of training, the work of a pass, "
            "and what its picture shows are not measured. Add them to REMARKS in selfattn_hf/insight/position_page.py."
        )
    return REMARKS[name]


def _table(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
