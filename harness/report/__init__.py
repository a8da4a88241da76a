"""Reports from verified records and public folders: terminal, Markdown, one HTML page, the forms of others."""
