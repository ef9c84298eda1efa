"""The page of the report: its template, fragments, style and script."""
