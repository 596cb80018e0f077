"""Augmentation: determined by (seed, epoch, index), image and mask together, values as Pillow and by hand."""

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import ConfigError
from tag2mask.data.transforms import RandomLongSide, RandomRescale, TrainTransform, normalise, scaled, seeded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def photo(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    """Random RGB pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def marked(height: int, width: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """An image of which every channel is its mask + 5, so that the one can be told from the other."""
    mask = np.random.default_rng(1).integers(0, 200, (height, width), dtype=np.uint8)
    red = mask + np.uint8(5)
    return Image.fromarray(np.stack([red, red, red], axis=2)), mask


def run(
    transform: TrainTransform, image: Image.Image, mask: NDArray[np.uint8] | None, key: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The transform under a key."""
    with seeded(*key):
        return transform(image, mask)


def test_the_same_key_gives_the_same_result_and_another_another() -> None:
    transform, image = TrainTransform(32, MEAN, STD, long_side=(30, 90)), photo()
    first, _ = run(transform, image, None, (7, 3, 11))
    again, _ = run(transform, image, None, (7, 3, 11))
    assert torch.equal(first, again)
    for other in ((8, 3, 11), (7, 4, 11), (7, 3, 12), (3, 7, 11)):
        assert not torch.equal(first, run(transform, image, None, other)[0])


def test_order_and_the_outer_random_state_change_nothing() -> None:
    transform, images = TrainTransform(32, MEAN, STD, rescale=(0.5, 2.0)), [photo(seed=i) for i in range(6)]
    torch.manual_seed(1)
    forward = [run(transform, image, None, (0, 1, i))[0] for i, image in enumerate(images)]
    torch.manual_seed(2)
    backward = [run(transform, images[i], None, (0, 1, i))[0] for i in reversed(range(6))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_seeded_puts_the_outer_state_back_even_after_an_error() -> None:
    state = torch.get_rng_state()
    with seeded(0, 0, 0):
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ZeroDivisionError), seeded(0, 0, 0):
        torch.rand(5).tolist()[0] / 0
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_take_turns() -> None:
    """Eight threads at once draw what one after the other draws."""
    expected = []
    for i in range(8):
        with seeded(5, 0, i):
            expected.append(torch.rand(3).tolist() + torch.rand(3).tolist())
    found: dict[int, list[float]] = {}
    gate = threading.Barrier(8)

    def draw(i: int) -> None:
        gate.wait()
        for _ in range(20):
            with seeded(5, 0, i):
                found[i] = torch.rand(3).tolist() + torch.rand(3).tolist()

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(8)] == expected


def test_image_and_mask_are_flipped_and_cropped_alike_and_padding_is_mean_and_ignored() -> None:
    """Without resizing every pixel of the result can be looked up: image = mask + 5, or 0 with 255."""
    for height, width in ((20, 50), (50, 20), (50, 60), (10, 12)):
        image, mask = marked(height, width)
        transform = TrainTransform(32, *PLAIN)
        for index in range(20):
            pixels, labels = run(transform, image, mask, (0, 0, index))
            assert labels is not None
            assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)
            assert (pixels.shape, labels.shape) == ((3, 32, 32), (32, 32))
            values = (pixels[0] * 255).round().long()
            void = labels == 255
            assert torch.equal(values[~void], labels[~void] + 5)
            assert not values[void].any()
            assert int((~void).sum()) == min(height, 32) * min(width, 32)


def test_without_a_mask_the_image_is_the_same() -> None:
    image, mask = marked(20, 50)
    transform = TrainTransform(32, MEAN, STD, long_side=(20, 60))
    for index in range(5):
        with_mask, _ = run(transform, image, mask, (0, 0, index))
        alone, none = run(transform, image, None, (0, 0, index))
        assert none is None
        assert torch.equal(with_mask, alone)


def test_a_small_image_lands_at_every_place() -> None:
    """An 8 x 8 image in a 12 x 12 crop: all 5 x 5 places occur, each within four deviations of 1 in 25."""
    mask = np.zeros((8, 8), np.uint8)
    transform, image = TrainTransform(12, MEAN, STD), photo(8, 8)
    places = np.zeros((5, 5), int)
    for index in range(500):
        _, labels = run(transform, image, mask, (0, 0, index))
        assert labels is not None
        rows, columns = torch.where(labels == 0)
        places[int(rows.min()), int(columns.min())] += 1
        assert rows.max() - rows.min() == columns.max() - columns.min() == 7
    assert abs(places - 20).max() <= 4 * (500 * 0.04 * 0.96) ** 0.5


def test_flips_occur_at_their_rate_and_mirror() -> None:
    image = photo(16, 16)
    plain = normalise(MEAN, STD)(image).as_subclass(torch.Tensor)
    flipped = 0
    for index in range(400):
        pixels, _ = run(TrainTransform(16, MEAN, STD, flip=0.25), image, None, (0, 0, index))
        mirrored = torch.equal(pixels, plain.flip(-1))
        assert mirrored != torch.equal(pixels, plain)
        flipped += mirrored
    assert abs(flipped - 100) <= 4 * (400 * 0.25 * 0.75) ** 0.5


def test_normalising_by_hand() -> None:
    pixels, _ = run(TrainTransform(1, MEAN, STD, flip=0.0), Image.new("RGB", (1, 1), (255, 0, 51)), None, (0, 0, 0))
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert pixels.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("height", "width", "long"), [(40, 60, 33), (61, 37, 100), (5, 90, 45)])
def test_resizing_is_pillows_bicubic_for_images_and_nearest_for_masks(height: int, width: int, long: int) -> None:
    image, mask = photo(height, width), marked(height, width)[1]
    size = scaled(height, width, long / max(height, width))
    transform = TrainTransform(long, *PLAIN, long_side=(long, long), flip=0.0)
    pixels, labels = run(transform, image, mask, (0, 0, 0))
    assert labels is not None
    rows, columns = torch.where(labels != 255)
    top, left = int(rows.min()), int(columns.min())
    expected = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    got = (pixels[:, top : top + size[0], left : left + size[1]] * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(got, expected)
    nearest = np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(labels[top : top + size[0], left : left + size[1]].numpy(), nearest)


def test_the_long_side_is_every_whole_number_of_its_range() -> None:
    draw, sides = RandomLongSide(20, 24), set()
    for index in range(100):
        with seeded(0, 0, index):
            resized = draw(photo(30, 90))
        sides.add(max(resized.size))
        assert min(resized.size) == round(30 * max(resized.size) / 90)
    assert sides == {20, 21, 22, 23, 24}


def test_the_factor_is_spread_over_its_range() -> None:
    draw, widths = RandomRescale(0.5, 1.5), []
    for index in range(300):
        with seeded(0, 0, index):
            widths.append(draw(photo(10, 400)).size[0])
    assert min(widths) >= 200
    assert max(widths) <= 600
    assert np.quantile(widths, [0.25, 0.5, 0.75]) == pytest.approx([300, 400, 500], abs=30)


@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (1, 1)])
def test_images_of_one_pixel_on_a_side_work(height: int, width: int) -> None:
    transform = TrainTransform(16, MEAN, STD, long_side=(8, 40))
    pixels, labels = run(transform, photo(height, width), np.zeros((height, width), np.uint8), (0, 0, 1))
    assert labels is not None
    assert pixels.shape == (3, 16, 16)
    assert bool(torch.isfinite(pixels).all())
    assert bool((labels == 0).any())
    assert scaled(1, 300, 0.1) == [1, 30]


def test_wrong_ranges_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"long_side = \[90, 30\]: expected \[smallest, largest\], both above 0"):
        TrainTransform(32, MEAN, STD, long_side=(90, 30))
    with pytest.raises(ConfigError, match=r"rescale = \[0, 2\]: expected \[smallest, largest\], both above 0"):
        TrainTransform(32, MEAN, STD, rescale=(0, 2))
    with pytest.raises(ConfigError, match="long_side and rescale are both set"):
        TrainTransform(32, MEAN, STD, long_side=(30, 90), rescale=(0.5, 2.0))
    with pytest.raises(ConfigError, match="crop = 0: expected at least 1 pixel"):
        TrainTransform(0, MEAN, STD)
