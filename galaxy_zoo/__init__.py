"""What the data is: decision trees, vote rules, the score, the submission, manifests and errors.

Imports nothing else of this project, so that packing, loading and training can all build on it.
"""
