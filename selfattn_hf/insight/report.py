"""One static page that shows a model from the inside: opened by a double click, it asks nothing of any network.

The page is a template, a style and a few scripts (`page/`) around the data of `report_data.py`. It can be laid into a
static Space as it is.
"""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .architecture import draw_architecture, draw_changes
from .loading import load_for_probing
from .report_data import report_data
from .report_numbers import one_line

SCRIPTS = (
    "tiny_model.js", "base.js", "figures.js", "theory.js", "section_model.js", "section_reach.js",
    "section_attention.js", "section_order.js", "section_mask.js", "main.js",
)  # fmt: skip


def write_report(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    texts: Sequence[str] = (),
    tiny: str | Path | None = None,
    data_file: str | Path | None = None,
    timed: bool = True,
) -> dict[str, Any]:
    """Load models, look into them, and write their page.

    Args:
        folders: of saved models, or their names on the Hub.
        output: the HTML file.
        texts: sentences to look at; without them examples of each folder's results.
        tiny: folder of a model of at most 100,000 parameters that answers inside the page; None: one of the models,
            if one is small enough.
        data_file: where the data go too, as JSON.
        timed: also measure the time of a gradient step.

    Returns:
        The data of the page.

    Raises:
        ValueError: for a folder that is no model, a text it cannot read, a tiny model that no page can run.
        OSError: for a file that cannot be read or written.
    """
    loaded = [load_for_probing(folder) for folder in folders]
    small = None if tiny is None else (load_for_probing(tiny), Path(tiny))
    models = [(name, one, Path(folder)) for name, one, folder in zip(_names(folders), loaded, folders, strict=True)]
    data = report_data(models, texts, small, timed)
    page = page_of(data, drawings_of([one.model.config for one in loaded]))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(page, encoding="utf-8")
    if data_file is not None:
        Path(data_file).write_text(one_line(data) + "\n", encoding="utf-8")
    return data


def page_of(data: dict[str, Any], drawings: str = "") -> str:
    """The page as text.

    Args:
        data: of `report_data`.
        drawings: of `drawings_of`; SVG that is laid into the page as it stands.
    """
    scripts = [_part(name) for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(_script(s)).digest()).decode()}'" for s in scripts)
    names = [model["name"] for model in data["models"]]
    title = f"{names[0]}, from the inside" if len(names) == 1 else f"{len(names)} models, from the inside"
    filled = {
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; "
        "base-uri 'none'; form-action 'none'",
        "title": html.escape(title),
        "style": _part("report.css"),
        "architectures": drawings,
        "data": inside_html(one_line(data)),
        "scripts": "\n".join(f"<script>{_script(script).decode()}</script>" for script in scripts),
    }
    page, rest = "", _part("report.html")
    for piece in rest.split("{{"):  # once over the template: what is filled in is not looked at again
        name, end, after = piece.partition("}}")
        page += filled[name] + after if end else piece
    return page


def inside_html(text: str) -> str:
    """JSON that no browser takes for markup: letters that open or close a tag are written by their numbers."""
    letters = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return "".join(letters.get(letter, letter) for letter in text)


def drawings_of(configs: Sequence[Any]) -> str:
    """A picture of each model's parts, and of what changed from each to the next."""
    found = [f'<div data-model="{number}">{draw_architecture(one)}</div>' for number, one in enumerate(configs)]
    for number, (before, after) in enumerate(zip(configs, configs[1:], strict=False), start=1):
        found.append(f'<div data-change="{number}">{draw_changes(before, after)}</div>')
    return "\n".join(found)


def _part(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _script(text: str) -> bytes:
    """A script as it stands between its tags, which is what its hash is of."""
    return f"\n{text}\n".encode()


def _names(folders: Sequence[str | Path]) -> list[str]:
    """The last part of each path, or as many parts as it takes to tell them apart."""
    parts = [Path(folder).parts or (str(folder),) for folder in folders]
    for length in range(1, max(len(one) for one in parts) + 1 if parts else 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(one[-1:]) for one in parts]
