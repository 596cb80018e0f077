"""Dense CRF: golden values, the reference's outputs, a brute-force mean field, and what must not change the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.crf_reference import N_LABELS, SIZES, drawn, reference, reference_scores, reference_unary
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.label_images.kinds import CRFSettings
from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.crf.kernel import gaussian_kernel
from tag2mask.refine.crf.presets import PRESETS, CRFPreset, PresetName
from tag2mask.refine.crf.unary import unary_from_labels
from tag2mask.segmentation.predict.options import PredictionSettings
from tests.helpers.refused import refused
from tests.refine.test_lattice import slow_filter

REFERENCE = Path(__file__).with_name("crf_reference.npz")
TOY = CRFPreset(3, 3, 8, 30, 10)


def toy() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The 6 x 7 image and its labels whose marginals are known to five digits."""
    y, x = np.mgrid[:6, :7]
    image = np.stack([40 * x + 10 * y, 20 * x + 30 * y, 15 * x * y + 90], -1) % 256
    labels = (x >= 3).astype(np.int64) + ((x >= 5) & (y >= 2))
    labels[1, 1], labels[4, 4] = 2, 0
    return image.astype(np.uint8), labels


def features(image: NDArray[Any], preset: CRFPreset) -> list[tuple[NDArray[np.float64], float]]:
    """The features of both kernels, (d, N) in standard deviations, and the kernels' weights."""
    y, x = (g.ravel().astype(float) for g in np.mgrid[: image.shape[0], : image.shape[1]])
    space, colour = np.stack([x, y]), image.reshape(-1, 3).T.astype(float)
    both = np.concatenate([space / preset.bilateral_sxy, colour / preset.bilateral_srgb])
    return [(space / preset.gaussian_sxy, preset.gaussian_compat), (both, preset.bilateral_compat)]


def true_kernel(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(-|f_i - f_j|^2 / 2) as a dense matrix."""
    return np.asarray(np.exp(-0.5 * ((points[:, :, None] - points[:, None]) ** 2).sum(0)))


def slow_lattice(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lattice's own kernel as a dense matrix."""
    return slow_filter(points.astype(np.float32).astype(float), np.eye(points.shape[1]))


def brute_force(
    kernels: list[tuple[NDArray[np.float64], float]], energy: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    """Mean field with dense matrices and their weights, float64: (L, H, W)."""
    total = np.zeros_like(kernels[0][0])
    for kernel, weight in kernels:
        scale = 1 / np.sqrt(kernel.sum(1))
        total += weight * scale[:, None] * kernel * scale[None]
    flat = energy.reshape(len(energy), -1)
    q = softmax(-flat)
    for _ in range(steps):
        q = softmax(-flat + q @ total.T)
    return q.reshape(energy.shape)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(values - values.max(0))
    return np.asarray(shifted / shifted.sum(0))


@pytest.mark.parametrize(
    ("steps", "first", "second", "total"),
    [
        (1, (0.83535, 0.01024, 0.15440), (0.89714, 0.06050, 0.04236), 18.83437),
        (5, (0.99996, 0.00002, 0.00003), (0.94696, 0.03679, 0.01625), 19.00718),
    ],
)
def test_published_marginals_of_the_toy_image(
    steps: int, first: tuple[float, ...], second: tuple[float, ...], total: float
) -> None:
    image, labels = toy()
    # refine takes probabilities: those whose negative logarithms are the energies of the labels
    q = DenseCRF(image, TOY).refine((-unary_from_labels(torch.from_numpy(labels), (6, 7), 3, 0.7)[0]).exp(), steps)
    # 42 is no multiple of 4: the reference's block of four holds two pixels that are not there (see lattice.py)
    np.testing.assert_allclose(q[:, 1, 1], first, atol=5e-5)
    np.testing.assert_allclose(q[:, 4, 4], second, atol=5e-5)
    assert float(q[0].sum()) == pytest.approx(total, abs=6e-4)


def test_published_labels_of_the_toy_image() -> None:
    image, labels = toy()
    found = DenseCRF(image, TOY).refine_labels(labels, 3, iterations=5)
    expected = labels.copy()
    expected[1, 1] = 0
    assert found.tolist() == expected.tolist()


def test_settings_name_every_preset() -> None:
    assert get_args(PresetName) == tuple(PRESETS)
    named = {
        CRFSettings.model_fields["preset"].annotation,
        *get_args(PredictionSettings.model_fields["crf"].annotation),
    }
    assert named == {PresetName, type(None)}


@pytest.mark.parametrize("number", range(len(SIZES)))
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_stored_outputs_of_the_reference(preset: str, number: int) -> None:
    with np.load(REFERENCE, allow_pickle=False) as stored:
        image, labels, scores = stored[f"image{number}"], stored[f"labels{number}"], stored[f"scores{number}"]
        by_labels, by_scores = stored[f"from-labels/{preset}/{number}"], stored[f"from-scores/{preset}/{number}"]
    crf = DenseCRF(image, preset)
    np.testing.assert_allclose(crf.refine(scores).numpy(), by_scores, atol=2e-5)
    assert (crf.refine_labels(labels, N_LABELS).numpy() == by_labels.argmax(0)).all()


def test_stored_inputs_are_those_of_the_script() -> None:
    with np.load(REFERENCE, allow_pickle=False) as stored:
        for number, size in enumerate(SIZES):
            image, labels, scores = drawn(*size, seed=number)
            assert (stored[f"image{number}"] == image).all()
            assert (stored[f"labels{number}"] == labels).all()
            np.testing.assert_allclose(stored[f"scores{number}"], scores, rtol=1e-6)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_labels_of_pydensecrf2_where_it_is_installed(preset: str) -> None:
    pytest.importorskip("pydensecrf")
    image, labels, scores = drawn(90, 120, seed=7)
    crf = DenseCRF(image, preset)
    expected = reference(image, reference_scores(scores), PRESETS[preset])
    np.testing.assert_allclose(crf.refine(scores).numpy(), expected, atol=2e-5)
    expected = reference(image, reference_unary(labels, N_LABELS, 0.6), PRESETS[preset], 4)
    assert (crf.refine_labels(labels, N_LABELS, 0.6, 4).numpy() == expected.argmax(0)).all()


def test_a_brute_force_mean_field_with_the_lattices_kernels_is_equal() -> None:
    image, _, scores = drawn(12, 14, seed=3)
    for name in ("irn", "psa"):
        kernels = [(slow_lattice(f), w) for f, w in features(image, PRESETS[name])]
        for steps in (1, 5):
            expected = brute_force(kernels, -np.log(scores.astype(float)), steps)
            np.testing.assert_allclose(DenseCRF(image, name).refine(scores, steps), expected, atol=2e-5)


def test_a_brute_force_mean_field_with_the_true_kernels_differs_by_the_error_of_the_lattice() -> None:
    """The scores are nearly random, a hard case: one step is off by 0.01 in the mean, five by 0.04."""
    image, _, scores = drawn(18, 22, seed=3)
    smooth = CRFPreset(3, 3, 20, 40, 5)
    kernels = [(true_kernel(f), w) for f, w in features(image, smooth)]
    for steps, mean, equal in ((1, 0.03, 0.95), (5, 0.06, 0.85)):
        expected = brute_force(kernels, -np.log(scores.astype(float)), steps)
        found = DenseCRF(image, smooth).refine(scores, steps).numpy()
        assert np.abs(found - expected).mean() < mean
        assert (found.argmax(0) == expected.argmax(0)).mean() > equal


def test_no_iteration_gives_the_normalised_probabilities() -> None:
    image, _, scores = drawn(12, 9, seed=1)
    np.testing.assert_allclose(DenseCRF(image).refine(scores * 0.3, 0).sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(DenseCRF(image).refine(scores, 0), scores, atol=1e-6)


def test_pixels_that_never_meet_keep_their_own_message() -> None:
    """Far apart in every kernel, one step gives softmax(-U + w Q): a pixel's message to itself is not removed."""
    image = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    apart = CRFPreset(0.05, 0.0, 0.05, 5, 2.0)
    scores = np.array([[[0.8, 0.3]], [[0.2, 0.7]]], np.float32)
    expected = softmax((np.log(scores) + 2 * scores).reshape(2, -1).astype(float)).reshape(scores.shape)
    np.testing.assert_allclose(DenseCRF(image, apart).refine(scores, 1), expected, atol=1e-6)


def test_many_problems_on_one_image_are_each_as_if_alone() -> None:
    image, labels, scores = drawn(30, 41, seed=2)
    crf = DenseCRF(image)
    many = np.stack([np.roll(labels, k, axis=1) for k in range(11)])  # more than are filtered at once
    together = crf.refine_labels(many, N_LABELS)
    assert torch.equal(together, torch.stack([crf.refine_labels(one, N_LABELS) for one in many]))
    shaped = crf.refine(np.stack([scores, scores[::-1]])[None], 3)
    assert shaped.shape == (1, 2, N_LABELS, 30, 41)
    torch.testing.assert_close(shaped[0, 0], crf.refine(scores, 3), atol=1e-6, rtol=0)


def test_a_batch_of_images_of_several_sizes_is_each_image_alone() -> None:
    inputs = [drawn(20, 31, seed=4), drawn(27, 16, seed=5), drawn(1, 12, seed=6)]
    images, labels, scores = zip(*inputs, strict=True)
    crf = DenseCRF.batch(images, "irn")
    n_labels = [4, 5, 6]
    for found, one, own, n in zip(crf.refine_labels(labels, n_labels), images, labels, n_labels, strict=True):
        assert torch.equal(found, DenseCRF(one, "irn").refine_labels(own, n))
    for found, one, own in zip(crf.refine([scores[0], scores[1][:3], scores[2]]), images, scores, strict=True):
        torch.testing.assert_close(found, DenseCRF(one).refine(own[: len(found)]), atol=1e-5, rtol=0)


def test_renaming_the_labels_renames_the_result() -> None:
    image, labels, _ = drawn(25, 25, seed=8)
    turned = np.array([2, 3, 1, 0])
    crf = DenseCRF(image, "psa")
    found = crf.refine_labels(labels, N_LABELS).numpy()
    assert (turned[found] == crf.refine_labels(turned[labels], N_LABELS).numpy()).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 17)])
@pytest.mark.parametrize("constant", [True, False])
def test_thin_small_and_constant_images(size: tuple[int, int], constant: bool) -> None:
    image, labels, scores = drawn(*size, seed=9)
    if constant:
        image[:] = 77
    for preset in PRESETS:
        found = DenseCRF(image, preset).refine(scores)
        assert found.shape == scores.shape
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
        alike = DenseCRF(image, preset).refine_labels(np.zeros_like(labels), N_LABELS)
        assert not alike.any()  # labels that agree everywhere stay


def test_one_label_and_no_label_leave_nothing_to_decide() -> None:
    image, labels, scores = drawn(8, 9, seed=1)
    crf = DenseCRF(image)
    assert torch.equal(crf.refine_labels(np.zeros_like(labels), 1), torch.zeros(8, 9, dtype=torch.int64))
    assert torch.equal(crf.refine(scores[:1]), torch.ones(1, 8, 9))
    assert crf.refine_labels(np.zeros((0, 8, 9), int), 3).shape == (0, 8, 9)


def test_ignored_pixels_take_the_label_of_what_looks_like_them() -> None:
    image = np.zeros((12, 12, 3), np.uint8)
    image[:, 6:] = 255
    labels = np.zeros((12, 12), np.int64)
    labels[:, 6:] = 1
    expected = labels.copy()
    labels[2:5, 2:5] = labels[6:9, 8:11] = 255
    assert (DenseCRF(image).refine_labels(labels, 2).numpy() == expected).all()


def test_tensors_and_arrays_of_any_strides_are_the_same() -> None:
    image, labels, scores = drawn(14, 15, seed=1)
    flipped = torch.from_numpy(image.copy()).flip(1).flip(1)
    strided = np.asfortranarray(scores)
    assert torch.equal(DenseCRF(flipped).refine(torch.from_numpy(scores)), DenseCRF(image).refine(strided))
    crf = DenseCRF(image)
    assert torch.equal(crf.refine_labels(labels.astype(np.uint8), 4), crf.refine_labels(labels, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_labels_of_the_cpu() -> None:
    image, labels, scores = drawn(120, 160, seed=1)
    for preset in PRESETS:
        gpu, cpu = DenseCRF(image, preset, device="cuda"), DenseCRF(image, preset)
        torch.testing.assert_close(gpu.refine(scores).cpu(), cpu.refine(scores), atol=1e-4, rtol=0)
        assert int((gpu.refine_labels(labels, 4).cpu() != cpu.refine_labels(labels, 4)).sum()) <= 2


def failing(image: Any = None, preset: str = "irn", **call: Any) -> str:
    """The text of the error of the constructor, or of one call."""
    with pytest.raises((ConfigError, DataError)) as caught:  # noqa: PT012  either may be the one that fails
        crf = DenseCRF(np.zeros((4, 5, 3), np.uint8) if image is None else image, preset)
        for name, arguments in call.items():
            getattr(crf, name)(*arguments)
    return str(caught.value)


def test_what_cannot_be_refined_is_said() -> None:
    zeros = np.zeros((4, 5), np.int64)
    assert "expected (H, W, 3) uint8" in failing(np.zeros((4, 5, 4), np.uint8))
    assert "type int64: expected (H, W, 3) uint8 0..255" in failing(np.zeros((4, 5, 3), np.int64))
    assert "image has shape (4, 5, 3) and type float64, with values 2..2: expected [0, 1]" in failing(
        np.full((4, 5, 3), 2.0)
    )
    assert "unknown CRF preset 'irm'; did you mean 'irn'?" in failing(preset="irm")
    assert "labels of shape (5, 4) do not fit the image: expected (..., 4, 5)" in failing(refine_labels=[zeros.T, 2])
    assert "label 3 with n_labels = 3: expected 0 to 2" in failing(refine_labels=[zeros + 3, 3])
    assert "labels are torch.float64" in failing(refine_labels=[zeros * 1.0, 3])
    assert "n_labels = 0" in failing(refine_labels=[zeros, 0])
    assert "gt_prob = 1.0" in failing(refine_labels=[zeros, 2, 1.0])
    assert "iterations = -1" in failing(refine_labels=[zeros, 2, 0.7, -1])
    assert "probabilities of shape (2, 5, 4)" in failing(refine=[np.ones((2, 5, 4), np.float32)])
    assert "NaN or a negative number" in failing(refine=[np.full((2, 4, 5), np.nan, np.float32)])
    assert "NaN or a negative number" in failing(refine=[np.full((2, 4, 5), -0.1, np.float32)])
    assert "probabilities go up to 255: expected 0 to 1" in failing(refine=[np.full((2, 4, 5), 255, np.float32)])
    assert "probabilities are torch.int64" in failing(refine=[np.ones((2, 4, 5), np.int64)])


def test_batches_want_one_input_for_each_image() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(DataError, match="at least one image"):
        DenseCRF.batch([])
    with pytest.raises(DataError, match="labels of 1 images for 2 images"):
        DenseCRF.batch([image, image]).refine_labels([np.zeros((4, 5), int)], [2])
    with pytest.raises(DataError, match="n_labels holds 1 numbers for 2 images"):
        DenseCRF.batch([image, image]).refine_labels([np.zeros((4, 5), int)] * 2, [2])


@pytest.mark.parametrize("name", ["gaussian_sxy", "bilateral_sxy", "bilateral_srgb"])
def test_a_standard_deviation_is_above_zero(name: str) -> None:
    values = {"gaussian_sxy": 3, "gaussian_compat": 3, "bilateral_sxy": 50, "bilateral_srgb": 5, "bilateral_compat": 10}
    with pytest.raises(ConfigError, match=f"{name} = 0"):
        CRFPreset(**{**values, name: 0})
    with pytest.raises(ConfigError, match="iterations = -1"):
        CRFPreset(3, 3, 50, 5, 10, iterations=-1)


def test_features_beyond_the_keys_are_refused() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 255
    with refused(DataError, "a 64-bit key"):
        DenseCRF(image, CRFPreset(1, 1, 1e-3, 1e-5, 1))


def test_inputs_are_left_as_they_are() -> None:
    image, labels, scores = drawn(10, 10, seed=1)
    kept: list[Tensor] = [torch.from_numpy(a.copy()) for a in (image, labels, scores)]
    crf = DenseCRF(image)
    crf.refine(scores)
    crf.refine_labels(labels, 4)
    assert all(torch.equal(torch.from_numpy(a), k) for a, k in zip((image, labels, scores), kept, strict=True))


def test_kernels_of_large_images_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (((3, 5),), PRESETS["irn"], torch.device("cpu")), (((3, 7),), PRESETS["irn"], torch.device("cpu"))
    monkeypatch.setattr("tag2mask.refine.crf.kernel._KEPT", 20)
    assert gaussian_kernel(*small) is gaussian_kernel(*small)
    assert gaussian_kernel(*large) is not gaussian_kernel(*large)
