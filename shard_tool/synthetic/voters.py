"""Simulate volunteers, who walk the decision tree and answer by what can be seen of the truth.

`Impression` is what the blur and the inclination leave of a galaxy's features; `answer_probabilities` turns it
into the chance of each answer; `vote` lets the volunteers walk. The slopes and offsets are fitted so that the mean
votes over the population resemble those of the Kaggle galaxies (see population.py), and for no single galaxy.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from galaxy_zoo.tree import DecisionTree
from shard_tool.synthetic.galaxies import Family, Galaxy, Odd

Probabilities = npt.NDArray[np.float64]

MEAN_VOTERS = 44
VOTERS_RANGE = (25, 65)
"""Source: Willett et al. 2013, https://arxiv.org/abs/1308.3496 (a median of 44 classifications a galaxy)."""

ODD_GUESSES: dict[Odd, float] = {
    Odd.RING: 0.10,
    Odd.LENS: 0.07,
    Odd.DISTURBED: 0.15,
    Odd.IRREGULAR: 0.16,
    Odd.OTHER: 0.36,
    Odd.MERGER: 0.14,
    Odd.DUST_LANE: 0.015,
}
"""Odd features that volunteers report where there are none, from Kaggle's mean votes of question 8."""


@dataclass(frozen=True)
class Impression:
    """How clearly each feature shows, from 0 (not at all) to 1 (beyond doubt)."""

    arms: float
    bar: float
    ring: float
    edge_on: float
    oddity: float
    artifact: float


def vote(galaxy: Galaxy, tree: DecisionTree, rng: np.random.Generator) -> Probabilities:
    """Return the vote fractions of about 44 volunteers, one for each column of `tree` (the tree "gz2-kaggle").

    Votes are counts over the number of volunteers, so each question's answers sum to its parent's votes, and a
    question nobody was asked is all zeros.
    """
    num_voters = int(np.clip(rng.poisson(MEAN_VOTERS), *VOTERS_RANGE))
    counts = np.zeros(len(tree.columns), np.int64)
    chances = answer_probabilities(galaxy)
    for index in tree.order:
        parent = tree.parents[index]
        num_asked = num_voters if parent is None else int(counts[parent])
        counts[tree.slices[index]] = rng.multinomial(num_asked, chances[index])
    return counts / num_voters


def answer_probabilities(galaxy: Galaxy) -> tuple[Probabilities, ...]:
    """Return for each of the 11 questions the chance of each answer, for a volunteer who is asked it."""
    seen = impression(galaxy)
    return (
        _smooth_or_disk(galaxy, seen),
        _yes_no(6.5 * seen.edge_on - 3.4),
        _yes_no(5.2 * seen.bar - 2.4),
        _yes_no(6.5 * seen.arms - 1.9),
        _bulge_prominence(galaxy),
        _yes_no(4.2 * seen.oddity - 2.2),
        _roundness(galaxy),
        _odd_feature(galaxy, seen),
        _bulge_shape(galaxy),
        _winding(galaxy),
        _arm_count(galaxy, seen),
    )


def impression(galaxy: Galaxy) -> Impression:
    """Judge how clearly each feature shows after blur and inclination."""
    from_above = _logistic((galaxy.disk.axis_ratio - 0.36) / 0.06)
    disk_light = 0.0 if galaxy.family is not Family.DISK else 1.0 - galaxy.bulge.fraction
    slimness = galaxy.disk.axis_ratio if galaxy.family is Family.DISK else galaxy.axis_ratio
    ring = galaxy.ring
    return Impression(
        arms=_arms_seen(galaxy) * from_above * disk_light**0.4,
        bar=_bar_seen(galaxy) * from_above * disk_light**0.4,
        ring=min(1.0, 1.5 * ring.strength) * galaxy.visibility(0.6 * ring.radius_px) * from_above,
        edge_on=_logistic((0.305 - slimness) / 0.045),
        oddity=_oddity_seen(galaxy),
        artifact=_artifact_seen(galaxy),
    )


def _arms_seen(galaxy: Galaxy) -> float:
    """Judge the arms: their contrast as left by the blur at 1.7 scale lengths, where they are strongest."""
    arms = galaxy.arms
    radius_px = 1.7 * galaxy.disk.scale_px
    spacing_px = min(2.0 * math.pi * radius_px * math.tan(arms.pitch) / arms.count, 2.0 * radius_px)
    sharp = galaxy.visibility(spacing_px * math.sqrt(galaxy.disk.axis_ratio))
    return min(1.0, 1.9 * arms.strength * sharp)


def _bar_seen(galaxy: Galaxy) -> float:
    return min(1.0, 4.5 * galaxy.bar.strength * galaxy.visibility(1.3 * galaxy.bar.length_px))


def _oddity_seen(galaxy: Galaxy) -> float:
    if galaxy.odd is None:
        return 0.12 * _artifact_seen(galaxy)
    sharp = 0.5 + 0.5 * galaxy.visibility(40.0)
    return (0.35 + 0.65 * galaxy.oddness) * sharp


def _artifact_seen(galaxy: Galaxy) -> float:
    """Judge stars and trails: they count where they outshine the galaxy near the frame's centre."""
    if galaxy.family is Family.ARTIFACT:
        return 1.0
    shares = [
        star.flux / galaxy.flux * math.exp(-math.hypot(star.x_px, star.y_px) / 40.0) for star in galaxy.sky.stars
    ]
    trails = [0.4 * math.exp(-abs(trail.offset_px) / 60.0) for trail in galaxy.sky.trails]
    return min(0.6, 0.1 * sum(shares) + sum(trails))


def _smooth_or_disk(galaxy: Galaxy, seen: Impression) -> Probabilities:
    structure = 3.6 * seen.arms + 2.4 * seen.bar + 2.2 * seen.ring + 3.6 * seen.edge_on
    disky = 1.3 * (1.0 - galaxy.bulge.fraction) if galaxy.family is Family.DISK else 0.0
    odd = 1.6 * seen.oddity if galaxy.odd in (Odd.IRREGULAR, Odd.DISTURBED, Odd.MERGER) else 0.0
    features = _logistic(structure + disky + odd - 1.8)
    faint = max(0.0, math.log(3.0e5 / galaxy.flux))
    star = _logistic(5.5 * seen.artifact + 0.5 * faint - 3.95)
    return np.array([(1.0 - star) * (1.0 - features), (1.0 - star) * features, star])


def _bulge_prominence(galaxy: Galaxy) -> Probabilities:
    """Order the answers none, just noticeable, obvious, dominant by the bulge's share of the light."""
    prominence = galaxy.bulge.fraction + 0.35 * galaxy.bar.strength
    return _ordered(prominence, edges=(0.0, 0.26, 0.78), softness=0.085)


def _roundness(galaxy: Galaxy) -> Probabilities:
    """Order the answers cigar, in between, round by the axis ratio; the tree names them the other way."""
    return np.flip(_ordered(galaxy.axis_ratio, edges=(0.46, 0.79), softness=0.06))


def _bulge_shape(galaxy: Galaxy) -> Probabilities:
    """Return rounded, boxy, none: a bulge below a tenth of the light is hard to see from the side."""
    bulge = galaxy.bulge
    present = _logistic((bulge.fraction - 0.13) / 0.05)
    boxy = _logistic(5.0 * bulge.boxiness - 3.0)
    return np.array([present * (1.0 - boxy), present * boxy, 1.0 - present])


def _winding(galaxy: Galaxy) -> Probabilities:
    """Order the answers tight, medium, loose by the logarithm of the pitch."""
    degrees = math.degrees(galaxy.arms.pitch)
    return _ordered(math.log(degrees), edges=(math.log(16.5), math.log(28.0)), softness=0.14)


def _arm_count(galaxy: Galaxy, seen: Impression) -> Probabilities:
    """Return 1, 2, 3, 4, more than 4, can't tell: blur and knots make volunteers miss by one or give up."""
    count = min(galaxy.arms.count, 5)
    blur = 0.3 + 0.4 * galaxy.arms.clumpiness + 0.35 * (1.0 - seen.arms)
    miss = np.exp(-0.5 * ((np.arange(1, 6) - count) / blur) ** 2)
    unsure = _logistic(1.2 + 0.25 * (count - 2) - 4.0 * seen.arms)
    return np.append((1.0 - unsure) * miss / miss.sum(), unsure)


def _odd_feature(galaxy: Galaxy, seen: Impression) -> Probabilities:
    weights = dict(ODD_GUESSES)
    if galaxy.odd is not None:
        weights[galaxy.odd] += 4.0 * seen.oddity
    values = np.array([weights[odd] for odd in Odd])
    return np.asarray(values / values.sum())


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def _yes_no(value: float) -> Probabilities:
    yes = _logistic(value)
    return np.array([yes, 1.0 - yes])


def _ordered(value: float, *, edges: tuple[float, ...], softness: float) -> Probabilities:
    """Return the chances of len(edges) + 1 ordered answers.

    Source: the ordered logit, McCullagh 1980, J. R. Statist. Soc. B 42, 109.
    """
    above = [1.0, *(_logistic((value - edge) / softness) for edge in edges), 0.0]
    chances: Probabilities = np.array(above[:-1]) - np.array(above[1:])
    return chances
