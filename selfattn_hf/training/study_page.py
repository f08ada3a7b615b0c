"""A page of the documentation that shows studies: their tables are written from their results, and nothing by hand."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .disk import write_text
from .study_results import study_table

RESULTS = "results.json"
_PLACE = re.compile(r"<!-- study: (?P<name>[\w-]+) -->\n.*?<!-- end of study -->", re.DOTALL)


def fill_study_page(page: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with its tables made anew, each between `<!-- study: NAME -->` and `<!-- end of study -->`.

    Args:
        page: its text; what stands outside of those lines stays.
        results: name of a study -> what `gather` found, as it stands in results.json.

    Raises:
        ValueError: if the page has no place for a table, or names a study that has no results.
    """
    named = [place["name"] for place in _PLACE.finditer(page)]
    if not named:
        raise ValueError(
            "the page has no place for a table: it needs '<!-- study: NAME -->', then '<!-- end of study -->'."
        )
    if absent := [name for name in named if name not in results]:
        raise ValueError(f"the page shows the studies {', '.join(absent)}, of which there are no results.")
    return _PLACE.sub(lambda place: _section(place["name"], results[place["name"]]), page)


def write_study_page(path: Path) -> list[str]:
    """Fill the page at `path` from `studies/NAME/results.json` beside it; the names of the studies that it shows.

    Raises:
        ValueError: as `fill_study_page`.
    """
    found = sorted(path.parent.glob(f"studies/*/{RESULTS}"))
    results = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in found}
    page = path.read_text(encoding="utf-8")
    write_text(path, fill_study_page(page, results))
    return [place["name"] for place in _PLACE.finditer(page)]


def _section(name: str, results: Mapping[str, Any]) -> str:
    table = study_table(results, results["theory"]).partition("\n\n")[2].strip()
    commits = sorted({str(row["commit"])[:7] for row in results["rows"]})
    packages = ", ".join(
        f"{package} {version}" for package, version in results["gathered_with"].items() if package != "commit"
    )
    made = f"Commit {', '.join(commits)}; {packages}."
    return f"<!-- study: {name} -->\n{table}\n\n{made}\n<!-- end of study -->"
