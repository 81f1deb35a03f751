"""The documentation site: Sphinx with MyST (Markdown) and the furo theme."""

import covidmm

project = "covidmm"
author = "the covidmm developers"
copyright = "the covidmm developers; Apache-2.0"
version = release = covidmm.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "covidmm"
html_static_path = ["images"]
html_theme_options = {"announcement": "Research software, not a medical device."}
