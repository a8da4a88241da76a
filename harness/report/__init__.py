"""Reports from records and public folders: a terminal table, Markdown, one self-contained HTML page.

collect(paths, trust=…, claims=…) -> Report      records folders and record files, verified while they are read
render_terminal(report), render_markdown(report), render_page(report) -> str
"""

from harness.report.figures import FolderClaim as FolderClaim
from harness.report.figures import collect as collect
from harness.report.page import render_markdown as render_markdown
from harness.report.page import render_page as render_page
from harness.report.tables import render_terminal as render_terminal
