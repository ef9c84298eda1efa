import base64
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg

from evaluation.evidence import Evidence
from evaluation.gallery import Asked, choose, draw, measure, section, votes_on_tree
from galaxy_zoo.votes import rmse


def walk(questions: tuple[Asked, ...]) -> Iterator[Asked]:
    for question in questions:
        yield question
        for answer in question.answers:
            yield from walk(answer.children)


def test_the_tree_of_votes_has_every_answer_once_below_the_one_it_hangs_from(evidence: Evidence) -> None:
    true, predicted = np.arange(37) / 100, np.full(37, np.nan)
    roots = votes_on_tree(evidence.tree, true, predicted)
    assert [question.name for question in roots] == ["smooth or disk", "odd"]
    assert sorted(question.number for question in walk(roots)) == list(range(1, 12))
    assert sorted(a.true for q in walk(roots) for a in q.answers) == true.tolist()
    spiral = next(q for q in walk(roots) if q.name == "spiral")
    assert [q.name for q in spiral.answers[0].children] == ["arm winding", "arm count"]
    assert spiral.share == true[4]
    assert spiral.answers[0].predicted is None


def test_the_worst_galaxies_are_those_with_the_highest_error(evidence: Evidence) -> None:
    groups = choose(evidence, measure(evidence))
    errors = [rmse(p, t) for p, t in zip(evidence.main[1], evidence.validation.votes, strict=True)]
    worst = {at for at, names in groups.items() if "worst" in names}
    best = {at for at, names in groups.items() if "best" in names}
    assert min(errors[at] for at in worst) >= max(e for at, e in enumerate(errors) if at not in worst)
    assert errors.index(min(errors)) in best


def test_a_questions_own_galaxies_were_asked_it_by_most(evidence: Evidence) -> None:
    groups = choose(evidence, measure(evidence))
    edge_on = {at for at, names in groups.items() if {"worst-2", "best-2", "uncertain-2"} & set(names)}
    assert edge_on
    assert min(evidence.validation.votes[at, 1] for at in edge_on) >= 0.5


def test_a_picture_is_the_middle_of_its_galaxy(evidence: Evidence) -> None:
    galaxies = evidence.validation.galaxies
    [uri] = draw(galaxies, [2], 48, 48)
    kind, data = uri.split(",")
    assert kind == "data:image/webp;base64"
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    source = simplejpeg.decode_jpeg(galaxies.jpegs(np.array([2]))[0])
    middle = source[24:72, 24:72].astype(float)
    assert abs(pixels - middle).mean() < 6
    assert abs(pixels.astype(float).mean(axis=(0, 1)) - middle.mean(axis=(0, 1))).max() < 2


def test_cards_have_the_votes_and_measures_of_their_galaxy(evidence: Evidence) -> None:
    part = section(evidence).blocks[0]
    keys = evidence.validation.galaxies.keys.tolist()
    for card in part.data["cards"]:
        at = keys.index(card.id)
        assert card.votes[0].answers[0].true == evidence.validation.votes[at, 0]
        expected = rmse(evidence.main[1][[at]], evidence.validation.votes[[at]])
        assert abs(card.measures["error"][0] - expected) < 1e-4
        assert len(card.measures["error"]) == 12
