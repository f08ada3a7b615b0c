"""Boxes, lines and texts, laid out as plain data and written as one SVG that stands alone and suits light and dark.

Colours are custom properties with a fallback (`--arch-mix`, ...), text and lines are `currentColor`, so that a page
that holds the SVG decides; opened by itself it follows the reader's choice. y grows downwards, as in SVG.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom."""

ROLES = {
    "embed": "#64809b",
    "position": "#2a9d63",
    "mix": "#e08a1e",
    "read": "#8a63d2",
    "think": "#2f86d6",
    "norm": "#8b919a",
    "output": "#0f969c",
    "warn": "#d6336c",
}
SIGNS = {"+": "new", "≠": "changed"}
MARGIN = 14
LETTER = 0.56  # mean width of a letter, in sizes of the font; capitals and bold ones are a little wider
_STYLE = (
    "svg:root{color:#1b1f24;background:#fff}"
    "@media(prefers-color-scheme:dark){svg:root{color:#e8eaed;background:#14171b}}"
    ".architecture text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;fill:currentColor}"
    ".architecture .soft{opacity:.72}.architecture .line{fill:none;stroke:currentColor}"
)


@dataclasses.dataclass(frozen=True)
class Box:
    """A part of the picture.

    Attributes:
        key: what it is; the same in pictures of other configs.
        left: in pixels, as are
        top: and
        width: and
        height: of it.
        role: a word of `ROLES`, which is its colour.
        title: text on its left, bold.
        note: text on its right, or below the title where it is `tall` enough and both do not fit.
        inside: SVG, drawn from its left upper corner.
        shape: `box`; `frame`, which holds boxes; `circle`.
    """

    key: str
    left: float
    top: float
    width: float
    height: float
    role: str
    title: str = ""
    note: str = ""
    inside: str = ""
    shape: str = "box"

    @property
    def bounds(self) -> Bounds:
        """Where it is."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def shows(self) -> tuple[str, str, str, str]:
        """What a reader sees in it; two boxes that show the same are the same wherever they stand."""
        return self.role, self.title, self.note, self.inside


@dataclasses.dataclass(frozen=True)
class Line:
    """A way from point to point, with an arrow at its end unless `plain`."""

    points: tuple[tuple[float, float], ...]
    role: str = ""
    dashed: bool = False
    plain: bool = False
    key: str = ""

    @property
    def bounds(self) -> Bounds:
        """Where it is, its arrow included."""
        xs, ys = [x for x, _ in self.points], [y for _, y in self.points]
        return min(xs) - 4, min(ys) - 4, max(xs) + 4, max(ys) + 4


@dataclasses.dataclass(frozen=True)
class Text:
    """A line of text; x is its start, middle or end, y its foot."""

    x: float
    y: float
    text: str
    size: float = 12
    anchor: str = "start"
    bold: bool = False

    @property
    def bounds(self) -> Bounds:
        """Where it is, about."""
        width = text_width(self.text, self.size, self.bold)
        left = self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * width
        return left, self.y - self.size, left + width, self.y + 0.3 * self.size


@dataclasses.dataclass
class Drawing:
    """What is drawn, in the order in which it is written: frames, lines, boxes, texts."""

    boxes: list[Box] = dataclasses.field(default_factory=list)
    lines: list[Line] = dataclasses.field(default_factory=list)
    texts: list[Text] = dataclasses.field(default_factory=list)

    def box(self, key: str) -> Box:
        """The box of that key."""
        return next(box for box in self.boxes if box.key == key)

    def bounds(self) -> Bounds:
        """The smallest rectangle around everything, and a margin."""
        items: list[Box | Line | Text] = [*self.boxes, *self.lines, *self.texts]
        all_bounds = [item.bounds for item in items]
        left, top, right, bottom = zip(*all_bounds, strict=True)
        return min(left) - MARGIN, min(top) - MARGIN, max(right) + MARGIN, max(bottom) + MARGIN

    def svg(self, title: str, description: str, marks: Mapping[str, str] | None = None) -> str:
        """The picture as SVG; `marks` are signs of `SIGNS` by key of a box."""
        left, top, right, bottom = self.bounds()
        width, height = right - left, bottom - top
        marks = marks or {}
        frames = [box for box in self.boxes if box.shape == "frame"]
        others = [box for box in self.boxes if box.shape != "frame"]
        body = "".join(
            [
                *(_write_box(box, marks.get(box.key)) for box in frames),
                *(_write_line(line) for line in self.lines),
                *(_write_box(box, marks.get(box.key)) for box in others),
                *(_write_text(text) for text in self.texts),
                *(_write_mark(box, marks[box.key]) for box in self.boxes if box.key in marks),
            ]
        )
        name = "arch" + hashlib.sha256((title + description + body).encode()).hexdigest()[:8]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="architecture" role="img" '
            f'aria-labelledby="{name}t {name}d" '
            f'viewBox="{left:g} {top:g} {width:g} {height:g}" width="{width:g}" height="{height:g}" '
            f'style="max-width:100%;height:auto"><title id="{name}t">{escape(title)}</title>'
            f'<desc id="{name}d">{escape(description)}</desc><style>{_STYLE}</style>{body}</svg>'
        )


def colour(role: str) -> str:
    """The colour of a role, as CSS; without one that of the text."""
    return f"var(--arch-{role},{ROLES[role]})" if role else "currentColor"


def text_width(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is, in pixels."""
    return len(text) * size * LETTER * (1.06 if bold else 1.0)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """A text in lines of at most that width."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def path(points: Iterable[tuple[float, float]], role: str = "", width: float = 1.4, opacity: float = 1.0) -> str:
    """A line from point to point, as SVG."""
    steps = " L".join(f"{x:g} {y:g}" for x, y in points)
    return (
        f'<path class="line" d="M{steps}" style="stroke:{colour(role)}" stroke-width="{width:g}" '
        f'stroke-linejoin="round" stroke-linecap="round" opacity="{opacity:g}"/>'
    )


def dot(x: float, y: float, radius: float, role: str = "", opacity: float = 1.0) -> str:
    """A filled circle, as SVG."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" style="fill:{colour(role)}" opacity="{opacity:g}"/>'


def block(
    x: float, y: float, width: float, height: float, role: str = "", opacity: float = 1.0, round: float = 2
) -> str:
    """A filled rectangle, as SVG."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}" '
        f'style="fill:{colour(role)}" opacity="{opacity:g}"/>'
    )


def arrow_head(points: Sequence[tuple[float, float]], role: str = "", size: float = 6) -> str:
    """The head of an arrow at the end of a way whose last step is upright or level."""
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    half = size * 0.55
    corners = [(x, y), (x - size * dx - half * dy, y - size * dy + half * dx),
               (x - size * dx + half * dy, y - size * dy - half * dx)]  # fmt: skip
    return f'<polygon points="{" ".join(f"{a:g},{b:g}" for a, b in corners)}" style="fill:{colour(role)}"/>'


def _write_line(line: Line) -> str:
    points = list(line.points)
    head = "" if line.plain else arrow_head(points, line.role)
    if head:  # the line ends where its head begins
        (x0, y0), (x, y) = points[-2:]
        points[-1] = (x - 4 * ((x > x0) - (x < x0)), y - 4 * ((y > y0) - (y < y0)))
    steps = " L".join(f"{x:g} {y:g}" for x, y in points)
    dashes = ' stroke-dasharray="4 4"' if line.dashed else ""
    return (
        f'<path class="line" d="M{steps}" style="stroke:{colour(line.role)}" stroke-width="1.5" '
        f'stroke-linejoin="round"{dashes}/>{head}'
    )


def _write_text(text: Text) -> str:
    weight = ' font-weight="650"' if text.bold else ' class="soft"'
    return (
        f'<text x="{text.x:g}" y="{text.y:g}" font-size="{text.size:g}" text-anchor="{text.anchor}"{weight}>'
        f"{escape(text.text)}</text>"
    )


def _write_box(box: Box, mark: str | None) -> str:
    ink = colour("warn") if mark else colour(box.role)
    stroke = f'style="fill:{colour(box.role)};stroke:{ink}" stroke-width="{2.6 if mark else 1.3}"'
    if box.shape == "circle":
        radius = box.width / 2
        x, y = box.left + radius, box.top + radius
        cross = path([(x - 4.5, y), (x + 4.5, y)], width=1.8) + path([(x, y - 4.5), (x, y + 4.5)], width=1.8)
        return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" {stroke} fill-opacity=".16"/>{cross}'
    is_frame = box.shape == "frame"
    opacity, corner = (".05", 14) if is_frame else (".16", 7)
    stroke += ' stroke-opacity=".4"' if is_frame and not mark else ""
    shape = (
        f'<rect x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}" rx="{corner}" '
        f'{stroke} fill-opacity="{opacity}"/>'
    )
    inside = f'<g transform="translate({box.left:g} {box.top:g})">{box.inside}</g>' if box.inside else ""
    return shape + inside + "".join(_write_text(text) for text in texts_of(box))


def texts_of(box: Box) -> list[Text]:
    """Title and note of a box, as large as fits into its width."""
    if not (box.title or box.note):
        return []
    room = box.width - 24
    wanted = text_width(box.title, 13.5, True) + text_width(box.note, 11.5) + (14 if box.title and box.note else 0)
    size = min(1.0, room / wanted)
    foot = box.top + 20 if box.inside or box.shape == "frame" else box.top + box.height / 2 + 4.6 * size
    texts = [Text(box.left + 12, foot, box.title, 13.5 * size, bold=True)] if box.title else []
    if box.note:
        texts.append(Text(box.left + box.width - 12, foot, box.note, 11.5 * size, anchor="end"))
    return texts


def _write_mark(box: Box, sign: str) -> str:
    """A sign on the corner of a box, so that a change shows without colour too."""
    x, y = (box.left + box.width, box.top) if box.shape != "circle" else (box.left + box.width + 6, box.top - 2)
    radius = 10 if box.shape != "circle" else 7
    return (
        f'<g><title>{SIGNS[sign]}</title><circle cx="{x:g}" cy="{y:g}" r="{radius}" style="fill:{colour("warn")}"/>'
        f'<text x="{x:g}" y="{y + 0.36 * 1.5 * radius:g}" font-size="{1.5 * radius:g}" font-weight="700" '
        f'text-anchor="middle" style="fill:#fff">{sign}</text></g>'
    )
