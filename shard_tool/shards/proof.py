"""The deep check of a tar, for `lint` and `index`: every image decodes, and all votes fit the tree."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError
from galaxy_zoo.index import Component, Sample, key_of
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import CLASS_EXTENSION, NPY_HEADER_BYTES, check_votes, npy_header, one_hot
from shard_tool.images.jpeg import check_strictly, decode_strictly
from shard_tool.shards.parallel import Tick
from shard_tool.shards.reader import image_of, read_component, votes_of
from shard_tool.shards.writer import IMAGE_EXTENSION, VOTES_EXTENSION, encode_votes
from shard_tool.source.ids import FORMULA, RUN_BY_SPREADSHEET

NPY_ERRORS = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, TokenError)
"""Errors that numpy raises if the header of a `.npy` file is damaged or not one."""
Measure = Callable[[NDArray[np.uint8]], None]


@dataclass(frozen=True)
class Failure:
    """What is wrong with a sample of a file, or with the whole file if `sample` is ""."""

    file: str
    sample: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SampleRules:
    """What a sample must hold; in a tar of other origin it may lack votes and hold other files."""

    tree: DecisionTree
    image_px: tuple[int, int]
    is_labelled: bool
    is_foreign: bool


def prove_samples(
    tar: AnyPath, samples: Sequence[Sample], rules: SampleRules, tick: Tick, *, measure: Measure | None = None
) -> list[Failure]:
    """Read and check samples of a tar, and return the failures; call `measure` with the pixels of every good image."""
    failures = []
    with tar.open("rb") as file:
        for sample in samples:
            reasons = _check_sample(sample, file, rules, measure)
            failures += [Failure(tar.name, key_of(sample), reason) for reason in reasons]
            tick()
    return failures


def find_votes(tar: AnyPath, samples: Sequence[Sample], tree: DecisionTree) -> tuple[Sample, ...]:
    """Return the samples of a foreign tar, with the component that holds votes renamed as an index names it.

    Where there is no `KEY.votes.npy`, votes are `KEY.npy`, if it holds float32 votes of the tree, else the class in
    `KEY.cls`, if the tree has one question.
    """
    header, num_answers = npy_header(len(tree.columns)), len(tree.columns)
    named = []
    with tar.open("rb") as file:
        for sample in samples:
            by_extension = {c.extension: c for c in sample}
            npy, number = by_extension.get("npy"), by_extension.get("cls")
            if votes_of(sample) is not None:
                named.append(sample)
            elif npy and npy.size == len(header) + 4 * num_answers and _begins_with(file, npy, header):
                named.append(_renamed(sample, npy, VOTES_EXTENSION))
            elif number and len(tree.questions) == 1:
                named.append(_renamed(sample, number, CLASS_EXTENSION))
            else:
                named.append(sample)
    return tuple(named)


def _begins_with(file: io.BufferedReader, component: Component, data: bytes) -> bool:
    file.seek(component.offset)
    return file.read(len(data)) == data


def _renamed(sample: Sample, component: Component, extension: str) -> Sample:
    name = component.name.removesuffix(component.extension) + extension
    votes = replace(component, extension=extension, name=name)
    return tuple(votes if c is component else c for c in sample)


def check_votes_file(data: bytes, tree: DecisionTree) -> Iterator[str]:
    """Yield the faults of a `.npy` file of votes."""
    try:
        dtype, shape = _npy_header(data)
    except NPY_ERRORS as error:
        yield f"its votes are not a .npy file: {error}"
        return
    num_answers = len(tree.columns)
    if dtype != np.dtype("<f4") or shape != (num_answers,):
        yield f"its votes are {dtype} of shape {shape}; tree {tree.name!r} needs float32 of shape ({num_answers},)"
        return
    if len(data) != NPY_HEADER_BYTES + 4 * num_answers:
        yield f"its votes have {len(data)} bytes; the loader needs {NPY_HEADER_BYTES + 4 * num_answers}"
        return
    if not encode_votes(np.zeros(num_answers, np.float32)).startswith(data[:NPY_HEADER_BYTES]):
        yield "its votes have another header than numpy writes, which the loader needs"
    votes = np.frombuffer(data, "<f4", offset=NPY_HEADER_BYTES)
    outside = np.flatnonzero((votes < 0) | (votes > 1))
    if len(outside):
        yield f"vote {tree.columns[outside[0]]} is {votes[outside[0]]:.6g}, outside [0, 1]"
    with np.errstate(invalid="ignore"):  # a signalling NaN is a missing vote too
        in_double = votes[None].astype(np.float64)
    for violation in check_votes(in_double, tree):
        yield f"the votes break the tree: {violation}"


def describe_npy(data: bytes) -> str:
    """Return text that says what a `.npy` file holds, by its header."""
    try:
        dtype, shape = _npy_header(data)
    except NPY_ERRORS:
        return "not an array of numpy"
    return f"{dtype}, shape {shape}"


def _npy_header(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape from the header of a `.npy` file; a false shape costs no memory, as no data is read."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return dtype, shape


def _check_sample(
    sample: Sample, file: io.BufferedReader, rules: SampleRules, measure: Measure | None
) -> Iterator[str]:
    yield from _check_components(sample, rules)
    image, votes = image_of(sample), votes_of(sample)
    if image is not None:
        try:
            if measure is None:
                check_strictly(read_component(file, image), rules.image_px)
            else:
                measure(decode_strictly(read_component(file, image), rules.image_px))
        except ImageError as error:
            yield str(error)
    if votes is not None:
        try:
            data = read_component(file, votes)
        except ImageError as error:
            yield f"its votes have {error}"
        else:
            check = _check_class if votes.extension == CLASS_EXTENSION else check_votes_file
            yield from check(data, rules.tree)


def _check_class(data: bytes, tree: DecisionTree) -> Iterator[str]:
    if len(tree.questions) != 1:
        yield f"it has a class, and tree {tree.name!r} has {len(tree.questions)} questions"
    try:
        one_hot(data, len(tree.columns))
    except ValueError as error:
        yield str(error)


def _check_components(sample: Sample, rules: SampleRules) -> Iterator[str]:
    names = ", ".join(component.name for component in sample)
    if FORMULA.match(key_of(sample)):
        yield RUN_BY_SPREADSHEET
    if rules.is_foreign:
        if image_of(sample) is None:
            yield f"holds {names}; expected one JPEG"
        return
    expected = {IMAGE_EXTENSION, VOTES_EXTENSION} if rules.is_labelled else {IMAGE_EXTENSION}
    extensions = {component.extension for component in sample}
    if len(extensions) != len(sample) or extensions != expected:
        yield f"holds {names}; expected {' and '.join(sorted(expected))}"
