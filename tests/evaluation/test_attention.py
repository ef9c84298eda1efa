import numpy as np
import pytest
import torch
from torch import nn

from evaluation.attention import choose, choose_layers, heat_maps
from evaluation.evidence import Evidence
from galaxy_zoo.errors import InputError


def network_that_looks_at_red() -> nn.Sequential:
    """Two answers: the mean of red above 0, and of blue."""
    convolution = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1]])[:, :, None, None])
    return nn.Sequential(convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_both_methods_find_what_the_network_looks_at_for_each_answer() -> None:
    network = network_that_looks_at_red()
    images = torch.zeros(2, 3, 16, 16)
    images[:, 0, :, :8] = 1  # red on the left
    images[:, 2, :, 8:] = 1  # blue on the right
    maps = dict(heat_maps(network, ["0"], images, [0, 1]))
    assert list(maps) == [
        f"{kind}, convolution 1 of 1, layer 0 (2 maps of 16 px)" for kind in ("Grad-CAM", "AblationCAM")
    ]
    for found in maps.values():
        assert found.shape == (2, 16, 16)
        left, right = found[:, :, :8].mean(axis=(1, 2)), found[:, :, 8:].mean(axis=(1, 2))
        assert left == pytest.approx([1, 0], abs=1e-3)
        assert right == pytest.approx([0, 1], abs=1e-3)
    assert network[1].inplace  # the network itself is as it was
    assert isinstance(network[0], nn.Conv2d)


def test_layers_are_the_first_two_convolutions_and_the_last_or_those_named() -> None:
    network = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(4)], nn.ReLU())
    assert choose_layers(network) == ["0", "1", "3"]
    assert choose_layers(network, ["4", "2"]) == ["4", "2"]
    assert choose_layers(nn.Sequential(nn.Linear(3, 3))) == []
    with pytest.raises(InputError, match="no such layer; convolutions: 0, 1, 2, 3"):
        choose_layers(network, ["9"])


def test_a_layer_without_maps_is_refused() -> None:
    network = nn.Sequential(*network_that_looks_at_red(), nn.Linear(2, 2))
    with pytest.raises(InputError, match="--layer 4: puts out no maps"):
        list(heat_maps(network, ["4"], torch.zeros(1, 3, 4, 4), [0]))


def test_typical_galaxies_have_the_most_votes_for_an_answer_each(evidence: Evidence) -> None:
    looked = choose(evidence, 3)
    assert [each.column for each in looked] == [0, 3, 5]
    for each in looked:
        assert (
            evidence.validation.votes[each.position, each.column]
            == evidence.validation.votes[:, each.column].max()
        )


def test_a_galaxy_is_chosen_by_its_id(evidence: Evidence) -> None:
    key = str(evidence.validation.galaxies.keys[4])
    [looked] = choose(evidence, 3, [key])
    assert looked.position == 4
    above = evidence.main[1][4] - evidence.mean_votes
    assert above[looked.column] == above.max()
    with pytest.raises(InputError, match="--galaxy 1: not among"):
        choose(evidence, 3, ["1"])


def test_no_galaxies_are_no_work(evidence: Evidence) -> None:
    assert choose(evidence, 0) == []
    assert np.isfinite(evidence.spread).all()
