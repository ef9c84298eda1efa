"""Measurements: each is a command that prints a table and writes JSON with all that is needed to repeat it.

Nothing else imports from here. Tests check that every measurement runs, never how fast.
"""
