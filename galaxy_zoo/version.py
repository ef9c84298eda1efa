"""The version of this project, written into manifests and checkpoints."""

__version__ = "0.1.0"
