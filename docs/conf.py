"""Settings of the documentation site, which `make docs` builds with Sphinx."""

import inspect
import pathlib
import re
import tomllib

from sphinx.util.inspect import stringify_signature

from keras_aoa.utils import quiet_start

quiet_start.install()  # autodoc imports TensorFlow

ROOT = pathlib.Path(__file__).resolve().parents[1]

project = "keras_aoa"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"

myst_heading_anchors = 3  # links to headings work as on GitHub
myst_enable_extensions = ["colon_fence"]

# Docstrings use Markdown's single backticks for code.
default_role = "code"
highlight_language = "none"
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Call arguments", "params_style"), "Source"]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_typehints = "none"  # docstrings describe types and shapes
autodoc_class_signature = "mixed"
python_display_short_literal_types = True
# Napoleon turns the words of argument types into references.
nitpick_ignore_regex = [("py:(class|exc|obj)", ".*")]

html_theme = "sphinx_book_theme"
html_title = "keras_aoa"
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "pygments_light_style": "tango",
}
html_static_path = ["site/style"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_domain_indices = False

OF_EVERY_LAYER = (
    "build",
    "compute_mask",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_config",
)

# Files beside the folder docs, and the pages that show them.
PAGES = {
    "README.md": "site/start",
    "CONTRIBUTING.md": "site/contributing",
    "CHANGELOG.md": "site/changelog",
    "SECURITY.md": "site/security",
    "export/README.md": "site/export",
    "keras_aoa/captioners/flickr8k/README.md": "site/card",
}


def link_pages(app, docname, content):
    """Redirect links to files outside the folder `docs` to the pages that show these files."""
    if docname.startswith("site/"):
        return
    up = "../" * docname.count("/")
    for path, page in PAGES.items():
        content[0] = content[0].replace(f"]({up}../{path}", f"]({up}{page}.md")


def link_included_pages(app, relative_path, parent_docname, content):
    """Redirect links in the included files, which are relative to the repository's root."""
    page = pathlib.Path(parent_docname).name
    source = next(path for path, name in PAGES.items() if name == f"site/{page}")
    folder = pathlib.PurePosixPath(source).parent

    def target(match):
        link, _, anchor = match[1].partition("#")
        path = (ROOT / folder / link).resolve().relative_to(ROOT).as_posix()
        if path in PAGES:
            new = f"{pathlib.Path(PAGES[path]).name}.md"
        elif path.startswith("docs/"):
            new = f"../{path.removeprefix('docs/')}"
        else:
            new = f"../../{path}"
        return f"]({new}{'#' if anchor else ''}{anchor})"

    content[0] = re.sub(r"\]\((?!\w+:|#)([^)\s]+)\)", target, content[0])


def convert_markdown(app, what, name, obj, options, lines):
    """Convert Markdown in docstrings (fenced code and tight lists) to reStructuredText."""
    converted, fence, in_list = [], None, None
    for line in lines:
        text = line.lstrip()
        indent = len(line) - len(text)
        if text.startswith("```"):
            if fence is None:
                language = text.strip("`") or "none"
                converted += ["", " " * indent + f".. code-block:: {language}", ""]
            fence = indent if fence is None else None
            continue
        if fence is not None:
            converted.append(" " * 4 + line if text else "")
            continue
        item = text.startswith("- ")
        starts = item and in_list is None
        ends = in_list is not None and text and not item and indent <= in_list
        if starts or ends:
            converted.append("")
        in_list = indent if item else None if ends or not text else in_list
        converted.append(line)
    lines[:] = converted


def signature_of_init(app, what, name, obj, options, signature, returns):
    """Show the arguments of `__init__`, because the `__new__` of Keras layers hides them."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    return stringify_signature(inspect.Signature(parameters), show_annotation=False), returns


def skip_undocumented(app, what, name, member, skip, options):
    """Leave out methods that every Keras layer has, such as `build` and `get_config`."""
    if name in (
        "build",
        "compute_output_shape",
        "compute_output_spec",
        "get_config",
        "from_config",
    ):
        return True
    return None


def setup(app):
    app.connect("source-read", link_pages)
    app.connect("include-read", link_included_pages)
    # Napoleon, with priority 500, reads the converted docstring.
    app.connect("autodoc-process-docstring", convert_markdown, priority=400)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-skip-member", skip_undocumented)
