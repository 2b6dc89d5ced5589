"""Links of the documentation resolve, and its reference covers the public names.

`make docs` builds the site, with warnings as errors; these tests do not need Sphinx.
"""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ROOT / "export" / "README.md",
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def headings(page):
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page):
    """Relative links of a page whose file or heading does not exist."""
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    assert broken_links(page) == []


def test_a_missing_file_and_a_missing_heading_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One: two\n[a](page.md#one-two) [b](page.md#three) [c](none.md) [d](#one-two)"
    )
    assert broken_links(page) == ["page.md#three", "none.md"]


def test_flags_are_shown_without_a_value():
    shown = {
        page.name: re.findall(r"--[a-z-]+ (?:True|False)\b", page.read_text()) for page in PAGES
    }
    assert {name: flags for name, flags in shown.items() if flags} == {
        "regions.md": ["--warm-start True"]
    }


def test_every_public_layer_is_in_the_reference():
    reference = (ROOT / "docs/reference/layers.md").read_text(encoding="utf-8")
    documented = set(re.findall(r":: keras_aoa\.layers\.(\w+)$", reference, re.MULTILINE))
    source = (ROOT / "keras_aoa/layers/__init__.py").read_text(encoding="utf-8")
    (names,) = re.findall(r"__all__ = (\[.*?\])", source, re.DOTALL)
    assert documented == set(ast.literal_eval(names))


def test_every_page_is_in_the_site_and_shown_files_exist():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^(?:.*<)?([\w/]+)>?$", index, re.MULTILINE))
    pages = {path for folder in ("docs", "docs/site") for path in (ROOT / folder).glob("*.md")}
    names = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in pages}
    assert names - {"index"} <= listed
    for page in (ROOT / "docs/site").glob("*.md"):
        (shown,) = re.findall(r"^```\{include\} (\S+)$", page.read_text(), re.MULTILINE)
        assert (page.parent / shown).is_file()
