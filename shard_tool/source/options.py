"""What the user asks `pack` for."""

from dataclasses import dataclass

from galaxy_zoo.remote import AnyPath
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import VoteKind
from shard_tool.images.encoding import AS_IT_IS, Encoding


@dataclass(frozen=True)
class CatalogueOptions:
    """A table of ids, files and votes; `id_column` is None for the tree's own."""

    path: AnyPath
    id_column: str | None = None
    file_column: str = "file"


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What to pack, and how.

    kind: what the tables of votes hold.
    shards: None for shards of about 64 MB.
    decode: without it only headers are read.
    stretch_is_asked: the stretch was given for this SOURCE, so FITS images must be there.
    only_images: every image is a test image, whatever its folder is called, and SOURCE may be a single image.
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
