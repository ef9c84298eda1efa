"""The data: decision trees, rules of votes, the score, submissions, manifests and errors.

Imports nothing else of this project, so that packing, loading and training can all build on it.
"""
