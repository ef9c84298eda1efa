"""Measurements, each a command that prints a table and writes JSON with all it takes to repeat it.

Nothing else imports from here; tests check that every measurement runs, never how fast.
"""
