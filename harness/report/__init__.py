"""Reports from records and public folders: a terminal table, Markdown, one self-contained HTML page.

:func:`harness.report.figures.collect` verifies records while it reads them; :mod:`harness.report.tables` and
:mod:`harness.report.page` show what it found, :mod:`harness.report.public_folder` writes it in the forms of others.
"""
