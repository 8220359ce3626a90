"""`make docs`: the Markdown pages of this repository, read by Sphinx from its top."""

project = "livseg"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
myst_fence_as_directive = ["mermaid"]
html_theme = "furo"
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "data/*.md",
    "reports/*.md",
    "reports/bench/*.md",
    "livseg_lib/pretrained/*/*.md",
]
exclude_patterns = ["AGENTS.md"]
