"""The documentation site: Sphinx with MyST (Markdown), the API reference from docstrings, and the furo theme."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pictures

import covidmm

project = "covidmm"
author = "the covidmm developers"
copyright = "the covidmm developers; Apache-2.0"
version = release = covidmm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
html_theme = "furo"
html_title = "covidmm"
html_static_path = ["images"]
html_theme_options = {"announcement": "Research software, not a medical device."}

# drawn anew at each build, so that they cannot fall behind the code
pictures.draw_all(Path(__file__).parent / "generated")
