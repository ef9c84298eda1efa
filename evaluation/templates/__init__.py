"""The page of the report: its template, the parts of it, style and script."""
