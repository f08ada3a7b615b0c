"""Chapter 7, seen from above: the architecture of a config, drawn from it alone, and what two of them differ in.

A stack is a column of boxes, read from below; equal layers are drawn once. Every box shows five words side by side
(see architecture_glyphs.py). A part that is switched off is absent, as in the model.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from . import architecture_glyphs as glyphs
from .architecture_words import (
    ACTIVATIONS,
    DOORS,
    MIXERS,
    NORMS,
    POSITIONS,
    SCORES,
    changes,
    describe,
    door_of,
    sides_of,
    title_of,
)
from .drawing import MARGIN, Box, Drawing, Line, Text, wrapped

__all__ = ["changes", "draw_architecture", "draw_changes", "lay_out"]

GAP = 22  # between two boxes, with an arrow in it
PADDING = 30  # of a frame, where the way around a sublayer runs
BAND = 36  # at the top of a frame, for the number of its layers
BESIDE = 46  # from a frame to the position encodings beside it
BETWEEN = 104  # from the encoder's frame to the decoder's
WITHOUT_OUTPUT = ("SelfAttnModel", "SelfAttnEncoderModel")


def draw_architecture(config: Any) -> str:
    """The picture of a config, as SVG that stands alone or inside of a page, in light and dark.

    A config that was saved with a model of the encoder alone names it in `architectures`, and is drawn as that.

    Args:
        config: a `SelfAttnConfig`.

    Returns:
        SVG with a title and a description in words.

    Examples:
        >>> Path("rope.svg").write_text(draw_architecture(SelfAttnConfig(position_encoding="rope")))
    """
    return lay_out(config).svg(title_of(config), describe(config))


def draw_changes(old_config: Any, new_config: Any) -> str:
    """The picture of the new config, what is new or changed in it marked by colour and sign; below, the same in words.

    Examples:
        >>> draw_changes(SelfAttnConfig(norm="post"), SelfAttnConfig(norm="pre"))
    """
    old = {box.key: box.shows for box in lay_out(old_config).boxes}
    drawing = lay_out(new_config)
    marks = {box.key: "+" if box.key not in old else "≠" for box in drawing.boxes if old.get(box.key) != box.shows}
    left, _, right, bottom = drawing.bounds()
    said = changes(old_config, new_config) or ["nothing that the picture shows"]
    top = bottom + 20
    drawing.texts.append(Text(left + MARGIN, top, "What changed", 15, bold=True))
    drawing.texts.append(Text(right - MARGIN, top, "+ new · ≠ changed", 12.5, anchor="end", bold=True))
    for sentence in said:
        for count, line in enumerate(wrapped(sentence, right - left - 2 * MARGIN - 24, 13)):
            top += 20
            drawing.texts.append(Text(left + MARGIN, top, f"{'–' if not count else ' '}  {line}", 13))
    return drawing.svg(f"{title_of(new_config)}: what changed", "; ".join(said) + ". " + describe(new_config), marks)


def lay_out(config: Any) -> Drawing:
    """Where everything stands, as plain data."""
    drawing = Drawing()
    sides = sides_of(config)
    left = 0.0
    memory: Box | None = None
    for side in sides:
        column = Column(drawing, config, side, left, outer=-1 if side == "encoder" else 1)
        last = column.build(reads=memory is not None, is_read="decoder" in sides and side == "encoder")
        if memory is not None:
            _hand_over(drawing, memory, left - BETWEEN / 2 - PADDING)
        memory = last
        left += glyphs.WIDTH + 2 * PADDING + BETWEEN
    if len(sides) == 2 and config.tie_word_embeddings:
        one, other = drawing.box("encoder.embed"), drawing.box("decoder.embed")
        y = (one.top + one.height / 2, other.top + other.height / 2)
        ends = ((one.left + one.width, y[0]), (other.left, y[1]))
        drawing.lines.append(Line(ends, "embed", dashed=True, plain=True, key="tie"))
        middle = (ends[0][0] + ends[1][0]) / 2
        drawing.texts.append(Text(middle, y[0] - 7, "one table", 11.5, anchor="middle"))
    return drawing


def _hand_over(drawing: Drawing, memory: Box, x: float) -> None:
    """The encoder's states go to every cross-attention."""
    right, centre = memory.left + memory.width, memory.top + memory.height / 2
    reading = [box for box in drawing.boxes if box.key.endswith(".read")]
    for box in reading:
        y = box.top + glyphs.HIGH
        level = y if abs(y - centre) < memory.height / 2 else centre
        drawing.lines.append(Line(((right, level), (x, level), (x, y), (box.left, y)), "read", key="memory"))
    rises = min(box.top for box in reading) + glyphs.HIGH < centre
    drawing.texts.append(Text(right + 6, centre + (18 if rises else -8), "keys, values", 11))


@dataclasses.dataclass
class Column:
    """A stack while it grows upwards: `y` is the top of what stands, `beside` that of the encodings beside it."""

    drawing: Drawing
    config: Any
    side: str
    left: float
    outer: int
    y: float = 0.0
    beside: float = 0.0

    @property
    def middle(self) -> float:
        """Where the states go upwards."""
        return self.left + glyphs.WIDTH / 2

    @property
    def edge(self) -> float:
        """The frame's side that looks away from the other stack."""
        return self.left - PADDING if self.outer < 0 else self.left + glyphs.WIDTH + PADDING

    def build(self, reads: bool, is_read: bool) -> Box:
        """All of the stack; returns its uppermost box."""
        config = self.config
        self._words_in()
        self.put("embed", 36, "embed", "Embedding", f"{config.vocab_size:,} × {config.hidden_size}", first=True)
        if config.position_injection == "input":
            self._order("input")
        if config.embedding_norm:
            self.put("embedding_norm", 24, "norm", NORMS[config.norm_type])
        start = self.y
        for number, (mixers, first, count) in enumerate(_runs(config, self.side)):
            self._layers(f"layer{number}", mixers, first, count, reads)
        if config.attend_to == "embeddings":
            self._inputs_again(start)
        if config.norm == "pre":
            self.put("norm", 24, "norm", NORMS[config.norm_type])
        if is_read:
            return self._states()
        return self._head()

    def put(
        self, key: str, height: float, role: str, title: str = "", note: str = "", inside: str = "", first: bool = False
    ) -> Box:
        """One more box, and the arrow that leads to it."""
        if not first:
            self.drawing.lines.append(Line(((self.middle, self.y), (self.middle, self.y - GAP)), key=f"{key}.in"))
            self.y -= GAP
        self.y -= height
        box = Box(f"{self.side}.{key}", self.left, self.y, glyphs.WIDTH, height, role, title, note, inside)
        self.drawing.boxes.append(box)
        return box

    def plus(self, key: str, role: str) -> Box:
        """A sum, and the arrow that leads to it."""
        self.drawing.lines.append(Line(((self.middle, self.y), (self.middle, self.y - GAP + 6)), key=f"{key}.in"))
        self.y -= GAP - 6 + 18
        box = Box(f"{self.side}.{key}", self.middle - 9, self.y, 18, 18, role, shape="circle")
        self.drawing.boxes.append(box)
        return box

    def _words_in(self) -> None:
        of_source = self.side == "encoder"
        names = [f"x{'₁₂₃₄₅'[k]}" for k in range(5)] if of_source else ["‹s›", *(f"y{'₁₂₃₄'[k]}" for k in range(4))]
        for x, name in zip(glyphs.COLUMNS, names, strict=True):
            self.drawing.texts.append(Text(self.left + x, 36, name, 14, anchor="middle", bold=True))
            self.drawing.lines.append(Line(((self.left + x, 20), (self.left + x, 0)), key="word"))
        is_set = not self.config.positions_of("encoder") and set(self.config.mixers_of("encoder")) == {"self_attention"}
        source = "reads the source, a set: no positions" if is_set else "reads the source"
        said = ("Encoder", source) if of_source else ("Decoder", "reads what is written so far")
        self.drawing.texts.append(Text(self.middle, 62, said[0], 15, anchor="middle", bold=True))
        self.drawing.texts.append(Text(self.middle, 80, said[1], 12.5, anchor="middle"))

    def _layers(self, key: str, mixer: str, first: int, count: int, reads: bool) -> None:
        """Equal layers, drawn once in a frame: mix -> read -> think."""
        config, bottom = self.config, self.y - GAP + 8
        self.drawing.lines.append(Line(((self.middle, self.y), (self.middle, bottom - 4)), plain=True, key=f"{key}.in"))
        self.y = bottom - 4
        causal = self.side == "decoder" and config.future_mask
        for part in self._sublayer(f"{key}.mix", "mix", turn=-self.outer):
            self._order("block", part)
            note = self._mixer_note(mixer, causal)
            inside = glyphs.draw_mixer(mixer, config, causal, cheats=self.side == "decoder" and not causal)
            box = self.put(part, glyphs.MIXER_HEIGHT, "mix", MIXERS[mixer], note, inside)
            if mixer in ("self_attention", "local_attention"):
                self._order("affinities", part, box)
        if reads:
            heads = f"{config.num_attention_heads} head{'s' * (config.num_attention_heads > 1)}"
            note = f"{heads} · {SCORES[config.attention_score]}"
            for part in self._sublayer(f"{key}.read", "read", turn=self.outer):
                self.put(
                    part,
                    glyphs.MIXER_HEIGHT,
                    "read",
                    "Cross-attention",
                    note,
                    glyphs.draw_read(config.num_attention_heads),
                )
        if config.feedforward != "none":
            note = f"{config.hidden_size} → {config.intermediate_size} → {config.hidden_size}"
            title = f"Feed-forward, {ACTIVATIONS[config.feedforward]}"
            for part in self._sublayer(f"{key}.think", "think", turn=-self.outer):
                inside = glyphs.draw_think(config.feedforward in ("swiglu", "geglu"))
                self.put(part, glyphs.THINK_HEIGHT, "think", title, note, inside)
        self._frame(key, bottom, first, count)

    def _sublayer(self, key: str, role: str, turn: int) -> Iterator[str]:
        """Norm before, the part that the caller puts, the way around it, norm after; what is off is absent."""
        config, start = self.config, self.y - 7
        if config.norm == "pre":
            self.put(f"{key}.norm", 24, "norm", NORMS[config.norm_type])
        yield key
        if config.residual:
            plus = self.plus(f"{key}.add", role)
            side = self.middle + turn * (glyphs.WIDTH / 2 + PADDING / 2)
            level = plus.top + 9
            around = ((self.middle, start), (side, start), (side, level), (self.middle + turn * 9, level))
            self.drawing.lines.append(Line(around, key=f"{key}.around"))
        if config.norm == "post":
            self.put(f"{key}.norm", 24, "norm", NORMS[config.norm_type])

    def _frame(self, key: str, bottom: float, first: int, count: int) -> None:
        """The frame around equal layers, which says how often they come."""
        shared = self.config.share_layers and count > 1
        through = Line(((self.middle, self.y), (self.middle, self.y - BAND)), plain=True, key=f"{key}.out")
        self.drawing.lines.append(through)
        top, self.y = self.y - BAND, self.y - BAND
        which = f"layer {first}" if count == 1 else f"layers {first}–{first + count - 1}"
        note = "one layer, again and again" if shared else which
        width = glyphs.WIDTH + 2 * PADDING
        frame = Box(f"{self.side}.{key}", self.left - PADDING, top, width, bottom - top, "", f"× {count}", note,
                    shape="frame")  # fmt: skip
        self.drawing.boxes.append(frame)
        if shared:
            outside = self.edge + self.outer * 16
            end = (self.middle + 2 * self.outer, bottom + 5)
            way = ((self.middle, top - 8), (outside, top - 8), (outside, bottom + 5), end)
            self.drawing.lines.append(Line(way, "mix", key=f"{key}.loop"))
            self.y -= 10
            self.drawing.lines.append(Line(((self.middle, top), (self.middle, self.y)), plain=True, key=f"{key}.out"))

    def _order(self, door: str, part: str = "", mixer: Box | None = None) -> None:
        """The encodings of the stack that come in here, each from beside, to a sum, a product or a mixer."""
        config = self.config
        names = [name for name in config.positions_of(self.side) if door_of(name, config) == door]
        for count, name in enumerate(names):
            if mixer is not None:
                level = mixer.top + mixer.height - 14 - 16 * (count % 5)
                goal = (mixer.left if self.outer < 0 else mixer.left + mixer.width, level)
            elif config.position_combine == "add":
                plus = self.plus(f"{part or 'input'}.{name}.add", "position")
                level, goal = plus.top + 9, (self.middle + self.outer * 9, plus.top + 9)
            else:
                joined = self.put(f"{part or 'input'}.{name}.join", 28, "position", "Linear", "of [x ; p]")
                level = joined.top + 14
                goal = (joined.left if self.outer < 0 else joined.left + joined.width, level)
            self._encoding(name, part, door, level, goal)

    def _encoding(self, name: str, part: str, door: str, level: float, goal: tuple[float, float]) -> None:
        """One encoding beside the stack, as near to its level as there is room."""
        width, height = glyphs.POSITION_WIDTH, glyphs.POSITION_HEIGHT
        top = min(level - height / 2, self.beside - height - 16)
        self.beside = top
        near = self.edge + self.outer * BESIDE
        box = Box(f"{self.side}.{part or 'input'}.position.{name}", near - (width if self.outer < 0 else 0), top, width,
                  height, "position", POSITIONS.get(name, name), "", glyphs.draw_position(name))  # fmt: skip
        self.drawing.boxes.append(box)
        combined = "joined to the words" if self.config.position_combine == "concat" else "added to the words"
        said = DOORS.get(name, "by its own door") if door == "affinities" else combined
        self.drawing.texts.append(Text(box.left + 12, top + height - 8, said, 11.5))
        start = (near, top + height / 2)
        bend = self.edge + self.outer * (BESIDE - 12)
        way = (start, goal) if start[1] == goal[1] else (start, (bend, start[1]), (bend, goal[1]), goal)
        self.drawing.lines.append(Line(way, "position", key=f"{box.key}.way"))

    def _inputs_again(self, start: float) -> None:
        """Keys and values of every self-attention come from the stack's input."""
        x = self.middle + self.outer * (glyphs.WIDTH / 2 + PADDING / 2)
        for box in [box for box in self.drawing.boxes if box.key.startswith(self.side) and box.key.endswith(".mix")]:
            if box.title in (MIXERS["self_attention"], MIXERS["local_attention"]):
                y = box.top + box.height - 5
                goal = (box.left if self.outer < 0 else box.left + box.width, y)
                way = ((self.middle, start - 4), (x, start - 4), (x, y), goal)
                self.drawing.lines.append(Line(way, "mix", dashed=True, key=f"{box.key}.inputs"))

    def _mixer_note(self, mixer: str, causal: bool) -> str:
        config = self.config
        heads = f"{config.num_attention_heads} head{'s' * (config.num_attention_heads > 1)}"
        notes = {
            "rnn": config.rnn_type.upper() + (", one direction" if causal else ", both directions"),
            "window": f"tanh, radius {config.window_radius}",
            "local_attention": f"{heads}, r = {config.window_radius}",
            "dense": f"fixed weights, {config.max_position_embeddings} places",
            "self_attention": heads,
        }
        attends = mixer in ("self_attention", "local_attention", "dense")
        masked = " · future masked" if causal and attends else ""
        cheats = " · sees the future" if self.side == "decoder" and not causal else ""
        again = " · k, v: input" if config.attend_to == "embeddings" and "attention" in mixer else ""
        return notes[mixer] + masked + cheats + again

    def _states(self) -> Box:
        """What the stack hands on, one state for each word."""
        box = self.put("states", glyphs.ROW_HEIGHT, "mix", inside=glyphs.draw_states())
        of = "the source" if self.side == "encoder" else "the target"
        self.drawing.texts.append(Text(self.middle, box.top - 9, f"states of {of}", 12, anchor="middle"))
        return box

    def _head(self) -> Box:
        """What becomes of the last states."""
        config, kind = self.config, (self.config.architectures or [""])[0]
        if kind in WITHOUT_OUTPUT:
            return self._states()
        if self.side == "encoder":
            per_row = kind == "SelfAttnForSequenceClassification"
            title, note = ("Mean, then Linear", "a label") if per_row else ("Linear", "a label for every word")
            return self.put("head", 36, "output", title, note)
        note = "the embedding's table again" if config.tie_word_embeddings else "a table of its own"
        box = self.put("head", 36, "output", "Linear + softmax", note + (", bias" if config.output_bias else ""))
        for x, name in zip(glyphs.COLUMNS, "₁₂₃₄₅", strict=True):
            self.drawing.lines.append(Line(((self.left + x, box.top), (self.left + x, box.top - 18)), key="word"))
            self.drawing.texts.append(Text(self.left + x, box.top - 25, f"y{name}", 14, anchor="middle", bold=True))
        return box


def _runs(config: Any, side: str) -> list[tuple[str, int, int]]:
    """Mixer, number of the first layer, and how many equal ones follow each other."""
    runs, first = [], 1
    for mixer, same in itertools.groupby(config.mixers_of(side)):
        count = len(list(same))
        runs.append((mixer, first, count))
        first += count
    return runs
