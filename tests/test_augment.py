"""Augmentation: each transformation against its definition, and the whole against its seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from bnnsearch.config.data import Augmentation, DataConfig
from bnnsearch.core.augment import Draw, alternating, augment_batch, cut_out, flip, light, rotate, translate

STEPS = TypeAdapter(tuple[Augmentation, ...])


def some_images(count: int = 6, channels: int = 3, height: int = 7, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def augmented(images: Tensor, steps: object, *, seed: int = 0, epoch: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(len(images))
    resolved = STEPS.validate_python(steps)
    return augment_batch(images, resolved, Draw(index, epoch, (0.5, 0.25, 1.0), generator))


@given(down=st.integers(-9, 9), right=st.integers(-9, 9))
def test_translation_moves_every_pixel(down: int, right: int) -> None:
    images = some_images(2)
    moved = translate(images, torch.tensor([[down, 0], [right, 0]]))
    height, width = images.shape[2:]
    for row in range(height):
        for column in range(width):
            source = (row - down, column - right)
            inside = 0 <= source[0] < height and 0 <= source[1] < width
            expected = images[0, :, source[0], source[1]] if inside else torch.zeros(3, dtype=torch.uint8)
            assert torch.equal(moved[0, :, row, column], expected)
    assert torch.equal(moved[1], images[1])


def test_crops_reach_every_offset_and_no_further() -> None:
    point = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    point[:, :, 4, 4] = 255
    landed = augmented(point, ["crop"]).sum(0)[0]
    assert (landed > 0).all()  # 9 x 9 offsets of [-4, 4], about 25 images each
    near = augmented(point, [{"name": "shift", "pixels": 1}]).sum(0)[0]
    assert (near > 0).nonzero().tolist() == [[row, column] for row in (3, 4, 5) for column in (3, 4, 5)]


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_flipping_mirrors_the_chosen_and_twice_is_nothing(chosen: list[bool]) -> None:
    images, mask = some_images(), torch.tensor(chosen)
    flipped = flip(images, mask)
    assert torch.equal(flipped[mask], images[mask][..., range(8, -1, -1)])
    assert torch.equal(flipped[~mask], images[~mask])
    assert torch.equal(flip(flipped, mask), images)


@given(st.integers(0, 10_000))
def test_alternating_flips_turn_every_image_every_epoch(epoch: int) -> None:
    index = torch.arange(50_000)
    now, then = alternating(index, epoch), alternating(index, epoch + 1)
    assert torch.equal(now, ~then)
    assert 0.49 < now.float().mean() < 0.51


def test_an_alternating_flip_follows_the_image_not_its_place_in_the_batch() -> None:
    images = some_images(40)
    seen = [augmented(images, [{"name": "flip", "kind": "alternating"}], seed=epoch, epoch=epoch) for epoch in range(3)]
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[0].flip(3))


def test_quarter_turns_are_exact() -> None:
    images = some_images(3, height=8, width=8)
    turned = rotate(images, torch.tensor([0.0, torch.pi / 2, torch.pi]))
    assert torch.equal(turned[0], images[0])
    assert torch.equal(turned[1], images[1].rot90(1, (1, 2)))
    assert torch.equal(turned[2], images[2].rot90(2, (1, 2)))


def test_a_rotation_is_rigid_on_images_that_are_not_square() -> None:
    """A disc about the centre stays where it is, whatever the angle."""
    rows, columns = torch.arange(40).view(-1, 1) - 19.5, torch.arange(60) - 29.5
    disc = ((rows**2 + columns**2 < 225) * 255).to(torch.uint8).view(1, 1, 40, 60)
    turned = rotate(disc, torch.tensor([0.7]))
    differing = (turned.int() - disc.int()).abs() > 128
    assert differing.sum() < 16  # the jagged edge only; sheared by 60 / 40 it is over a hundred pixels


def test_cut_out_leaves_the_mean_colour_and_the_rest_as_it_was() -> None:
    images = some_images(2)
    cut = cut_out(images, torch.tensor([[3, 0], [4, 8]]), size=3, mean=(0.5, 0.25, 1.0))
    expected = images.clone()
    colour = torch.tensor([128, 64, 255], dtype=torch.uint8).view(3, 1, 1)
    expected[0, :, 2:5, 3:6] = colour
    expected[1, :, 0:2, 7:9] = colour  # the square sticks out of the corner
    assert torch.equal(cut, expected)


def test_lighting_moves_colours_along_the_published_components() -> None:
    """255 times eigenvectors times (eigenvalue * component), worked out by hand from the published numbers.

    For (1, 0, 0): -.5675 * .2175 * 255 = -31.475, -.5808 * .2175 * 255 = -32.213, -.5836 * .2175 * 255 = -32.368.
    """
    grey = torch.full((4, 3, 2, 2), 100, dtype=torch.uint8)
    lit = light(grey, torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.1, -0.2, 0.3]]))
    assert (lit.int() - 100)[..., 0, 0].tolist() == [[-31, -32, -32], [3, 0, -3], [0, -1, 0], [-4, -3, -2]]
    assert torch.equal(lit, lit[..., :1, :1].expand_as(lit))
    black_and_white = torch.tensor([[0] * 3, [255] * 3], dtype=torch.uint8).view(2, 3, 1, 1)
    assert torch.equal(light(black_and_white, torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])), black_and_white)


def test_lighting_is_as_strong_as_it_says() -> None:
    """Colours deviate by 255 * .1 * sqrt(sum of (eigenvalue * eigenvector)^2): 3.17, 3.22 and 3.25 levels."""
    images = torch.full((20_000, 3, 1, 1), 128, dtype=torch.uint8)
    moved = augmented(images, ["lighting"]).float().flatten(1)
    assert moved.mean(0).tolist() == pytest.approx([128] * 3, abs=0.1)
    assert moved.std(0).tolist() == pytest.approx([3.167, 3.222, 3.254], abs=0.1)


@pytest.mark.parametrize("data", [{"name": "digits"}, {"name": "mnist"},
                                  {"name": "image_folder", "root": ".", "channels": 1}])  # fmt: skip
def test_lighting_needs_colours(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"lighting needs images of 3 channels.*but got 1 channel"):
        TypeAdapter(DataConfig).validate_python(data | {"augment": ["lighting"]})


def test_the_seed_decides_everything() -> None:
    steps = ["crop", "flip", "rotation", "cutout", "shift", "lighting"]
    images = some_images(16, height=16, width=16)
    first, again, other = augmented(images, steps), augmented(images, steps), augmented(images, steps, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8 and first.shape == images.shape


def test_images_of_a_batch_are_augmented_independently() -> None:
    same = some_images(1, height=16, width=16).expand(64, -1, -1, -1)
    for step in ("crop", "flip", "rotation", "cutout", "lighting"):
        assert len(augmented(same, [step]).flatten(1).unique(dim=0)) > 1, step


def test_no_steps_no_change() -> None:
    images = some_images()
    assert augmented(images, []) is images


def test_a_name_stands_for_its_defaults() -> None:
    assert STEPS.validate_python(["crop"]) == STEPS.validate_python([{"name": "crop", "padding": 4}])
    with pytest.raises(ValidationError, match="mixup"):
        STEPS.validate_python(["mixup"])
