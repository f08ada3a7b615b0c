"""The pages of the documentation build without a warning, and every public name stands in them."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="needs mkdocs-material and mkdocstrings: pip install 'selfattn-hf[docs]'",
)


# --quiet would make --strict count no warning.
def build(into, config=ROOT / "mkdocs.yml"):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(into)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@needs_mkdocs
def test_the_pages_build_without_a_warning_and_ask_nobody_else_for_anything(tmp_path):
    done = build(tmp_path / "site")
    assert (done.returncode, done.stdout) == (0, "") and "WARNING" not in done.stderr, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\">]+")
    for page in pages:
        others = [tag for tag in fetched.findall(page.read_text(encoding="utf-8")) if 'rel="canonical"' not in tag]
        assert others == [], page
    models = (tmp_path / "site" / "api" / "models.html").read_text(encoding="utf-8")
    assert "SelfAttnForTokenClassification" in models and "loss_only" in models


@needs_mkdocs
def test_a_link_to_nowhere_would_be_found(tmp_path):
    """Positive control."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nowhere.md)")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\n")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0 and "nowhere.md" in done.stderr + done.stdout


@pytest.mark.parametrize("room", ["", "training", "inference", "insight", "sharing"])
def test_every_public_name_stands_in_the_pages(room):
    source = (ROOT / "selfattn_hf" / room / "__init__.py").read_text(encoding="utf-8")
    (names,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    told = {line.rpartition(".")[2] for line in re.findall(r"^::: (selfattn_hf\S+)", pages, re.MULTILINE)}
    assert set(names) - {"__version__"} <= told


def test_every_page_is_named_in_the_navigation():
    named = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} == named
