"""Reports from records and public folders: a terminal table, Markdown, one self-contained HTML page.

collect(paths, trust=…, claims=…) -> Report      records folders and record files, verified while they are read
render_terminal(report), render_markdown(report), render_page(report) -> str
"""

from harness.report.collect import collect
from harness.report.figures import FolderClaim, Report
from harness.report.page import render_page, write_page
from harness.report.tables import render_markdown, render_terminal, write_markdown

__all__ = [
    "FolderClaim",
    "Report",
    "collect",
    "render_markdown",
    "render_page",
    "render_terminal",
    "write_markdown",
    "write_page",
]
