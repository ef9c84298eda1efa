"""Settings of `pack`."""

from dataclasses import dataclass

from galaxy_zoo.remote import AnyPath
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import VoteKind
from shard_tool.images.encoding import AS_IT_IS, Encoding


@dataclass(frozen=True)
class CatalogueOptions:
    """A table of ids, files and votes. id_column: None for the column named by the tree."""

    path: AnyPath
    id_column: str | None = None
    file_column: str = "file"


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What to pack, and how.

    kind: kind of votes in the tables.
    shards: number of training shards; None: shards of about 64 MB.
    decode: decode every image; otherwise read only headers.
    stretch_is_asked: the stretch was given for this SOURCE, so it must hold FITS images.
    only_images: every image is a test image, whatever its folder is called; SOURCE may be a single image.
    """

    source: AnyPath
    tree: DecisionTree
    labels: tuple[AnyPath, ...] = ()
    missing_votes: bool = False
    kind: VoteKind = "all"
    shards: int | None = None
    seed: int = 0
    encoding: Encoding = AS_IT_IS
    catalogue: CatalogueOptions | None = None
    decode: bool = True
    stretch_is_asked: bool = True
    only_images: bool = False
