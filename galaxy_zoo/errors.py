"""The exception tree. Every message says what is wrong, where, and what to do next.

GalaxyZooError
├── InputError           something the user gave is wrong
│   ├── TreeError        a decision tree is not a tree
│   ├── LabelError       a table of votes lacks what the tree needs
│   ├── SourceError      a folder or archive of images cannot be read
│   ├── ImageError       one image is incomplete or of the wrong kind
│   ├── ShardError       a shard, index or manifest is missing, damaged or of the wrong kind
│   ├── RecipeError      a recipe is unknown or not valid
│   ├── RunError         a run or a checkpoint is missing, damaged or does not fit
│   └── SubmissionError  a submission is not in Kaggle's format
└── OutputError          the output path is taken, read-only or on a full disk
"""


class GalaxyZooError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(GalaxyZooError):
    """Something the user gave is wrong."""


class TreeError(InputError):
    """A decision tree is not a tree."""


class LabelError(InputError):
    """A table of votes lacks what the tree needs."""


class SourceError(InputError):
    """A folder or archive of images cannot be read."""


class ImageError(InputError):
    """One image is incomplete or of the wrong kind."""


class ShardError(InputError):
    """A shard, index or manifest is missing, damaged or of the wrong kind."""


class RecipeError(InputError):
    """A recipe is unknown or not valid."""


class RunError(InputError):
    """A run or a checkpoint is missing, damaged or does not fit."""


class SubmissionError(InputError):
    """A submission is not in Kaggle's format."""


class OutputError(GalaxyZooError):
    """The output path is taken, read-only or on a full disk."""
