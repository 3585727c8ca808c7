"""The site: `sphinx-build -W --keep-going docs site` builds it, without a network, from the pages beside this file."""

import sys
from pathlib import Path

import accelsim

sys.path.insert(0, str(Path(__file__).parent / "_extension"))

project = "accelsim"
author = "the accelsim authors"
copyright = "the accelsim authors; MIT licence"
release = version = accelsim.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "docstrings",
    "generated",
    "mathml",
    "notebooks",
    "repository",
]
nitpicky = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_raise_on_error = True
nb_execution_timeout = 1800

html_theme = "furo"
html_title = "accelsim"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
pygments_style = "tango"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
