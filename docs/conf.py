"""Settings of the documentation's site: sphinx-build -W docs SITE."""

import re
from importlib import metadata
from typing import Any

project = "nuat"
version = release = metadata.version("nuat")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebook's outputs are committed; tests/docs runs it

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
maximum_signature_line_length = 100  # longer ones: an argument per line
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = "nuat"
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False, "navbar_center": []}
html_sidebars = {"**": ["all-pages"]}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]


def setup(app: Any) -> None:
    """Take the docstring of a field as it is: it is also the help of the command line."""

    def plain_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        if what in ("attribute", "data", "property"):
            lines[:] = [re.sub(r"(``.*?``)|\*", lambda found: found[1] or r"\*", line) for line in lines]
            lines[:0] = ["..", ""]  # napoleon would read the text before the first colon as the field's type

    app.connect("autodoc-process-docstring", plain_text, priority=400)  # napoleon's is 500
