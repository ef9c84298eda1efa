import torch

from ensemble.networks.corners import corner_parts


def test_every_part_has_the_middle_of_the_image_at_its_lower_right() -> None:
    images = torch.zeros(2, 2, 3, 69, 69)
    images[..., 34, 34] = 1
    parts = corner_parts(images, 45)
    assert parts.shape == (2, 16, 3, 45, 45)
    assert (parts[..., 34, 34] == 1).all()
    assert parts.sum() == 2 * 16 * 3


def test_the_first_half_of_a_turns_parts_is_plain_and_the_second_mirrored() -> None:
    images = torch.rand(1, 2, 3, 9, 9)
    plain, mirrored = corner_parts(images, 5).unflatten(1, (2, 2, 4)).unbind(2)
    assert torch.equal(plain[0, 1, 0], images[0, 1, :, :5, :5])
    assert torch.equal(plain[0, 0, 1], images[0, 0, :, :5, 4:].flip(-1).mT)
    assert torch.equal(plain[0, 0, 2], images[0, 0, :, 4:, 4:].flip(-1, -2))
    assert torch.equal(mirrored[0, 1, 0], images[0, 1, :, :5, 4:].flip(-1))


def test_parts_of_all_rotations_by_quarters_are_the_same_set() -> None:
    images = torch.rand(1, 1, 3, 8, 8)
    turned = corner_parts(torch.rot90(images, 1, (-2, -1)), 6)[0]
    parts = corner_parts(images, 6)[0]
    assert all(any(torch.equal(one, other) for other in parts) for one in turned)
