"""LPCAM for any classifier with a linear layer after its pooling: the public class `LPCAM`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from tag2mask.backbones.feature_layer import Anatomy, examine
from tag2mask.backbones.hooks import check_cells
from tag2mask.core.errors import ConfigError, DataError, StageError, Tag2MaskError
from tag2mask.core.progress import LOG
from tag2mask.core.types import Prototypes
from tag2mask.inference.multiscale import CAMHead, MapHead, normalise
from tag2mask.methods.activation_maps import CAM
from tag2mask.methods.lpcam.collect import Collector
from tag2mask.methods.lpcam.maps import LPCAMHead
from tag2mask.methods.lpcam.prototypes import Clustering, Rules, Scorer, build_class
from tag2mask.methods.lpcam.prototypes_file import NetworkMark, load_marked, picture, save_prototypes


class LPCAM(CAM):
    """Activation maps from clustered class and context prototypes (LPCAM paper, section 3.1).

    `fit` once on images with tags, or `load` prototypes; then call with images and tags, as `CAM`.

    Args:
        model: as for `CAM`.
        layer: as for `CAM`.
        weights: as for `CAM`.
        n_prototypes: K, clusters on each side of each class.
        tau: eq. 2, foreground where CAM >= tau.
        mu_f: eq. 3, foreground centres with a score above are kept.
        mu_b: eq. 4, context centres with a score below are kept ...
        mu_b_low: ... if their score is above this one too (0: no lower bound).
        images_per_class: `fit` takes so many images of each class, the first that come; None takes all.
        foreground_only: leave the context prototypes out of the maps (LPCAM-F).
        seed: of the clustering.
        scales: as for `CAM`.
        mirror: as for `CAM`.

    Raises:
        ConfigError: a number out of its range, an unknown layer.

    Example:
        >>> lpcam = LPCAM(model, n_prototypes=12).fit(batches)  # doctest: +SKIP
        >>> lpcam(images, tags)[0].resize(480, 640).maps  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str | None = None,
        *,
        weights: Tensor | None = None,
        n_prototypes: int = 12,
        tau: float = 0.1,
        mu_f: float = 0.9,
        mu_b: float = 0.9,
        mu_b_low: float = 0.0,
        images_per_class: int | None = None,
        foreground_only: bool = False,
        seed: int = 0,
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
    ) -> None:
        super().__init__(model, layer, weights=weights, scales=scales, mirror=mirror)
        if n_prototypes < 1 or (images_per_class is not None and images_per_class < 1):
            raise ConfigError(
                f"n_prototypes = {n_prototypes} and images_per_class = {images_per_class} must be 1 or more "
                "(images_per_class may be None for all)"
            )
        if not 0 <= tau <= 1:
            raise ConfigError(f"tau = {tau} must lie in [0, 1]")
        self.tau = tau
        self.rules = Rules(mu_f, mu_b, mu_b_low)
        self.clustering = Clustering(n_prototypes, seed)
        self.images_per_class = images_per_class
        self.foreground_only = foreground_only
        self._prototypes: Prototypes | None = None
        self._mark: NetworkMark | None = None

    @property
    def prototypes(self) -> Prototypes:
        """Class and context prototypes: ``.foreground[c]`` and ``.context[c]`` are (K', D).

        Raises:
            StageError: neither `fit` nor `load` has been called.
        """
        if self._prototypes is None:
            raise StageError("LPCAM has no prototypes yet: call fit(batches) or load(path) first")
        return self._prototypes

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Cluster and select prototypes from images with tags, read once: a generator will do.

        Foreground and context are separated by the model's own single-scale CAM. Feature vectors lie in a
        temporary folder meanwhile.

        Args:
            batches: pairs of images (N, 3, H, W) and multi-hot tags (N, C).

        Raises:
            DataError: a batch of a wrong form, NaN images, or no tagged image at all.
            ConfigError: no layer of the model can be used.
            WeightsError: no weights of the model can be used, or features that are not finite.
            StageError: the disk is full.
        """
        if not isinstance(batches, Iterable):
            raise DataError(f"fit expects batches, such as a list or a loader, got {type(batches).__name__}")
        with ExitStack() as stack:
            collectors: dict[int, Collector] = {}
            counts: Counter[int] = Counter()
            seen, shape = 0, None
            for batch in batches:
                images, tags = _pair(batch)
                anatomy = self._prepare(images, tags)
                shape = shape or (images.shape[1], images.shape[2], images.shape[3])
                wanted = self._wanted(tags, counts)
                if wanted:
                    chosen = list(wanted)
                    anatomy, (features,) = self._read(images[chosen], tags[chosen], (1.0,), mirror=False)
                    check_cells(features, images, anatomy.name)
                    for (i, columns), feature in zip(wanted.items(), features, strict=True):
                        self._collect(stack, collectors, seen + i, columns, feature, anatomy)
                seen += len(images)
            prototypes = self._build(collectors)
        assert self._anatomy is not None  # there are prototypes, so there was a batch
        assert shape is not None
        self._prototypes, self._mark = prototypes, NetworkMark.of(self.model, self._anatomy, shape)
        return self

    def save(self, path: str | Path) -> None:
        """Write the prototypes, dropped ones included, as safetensors, and which network they belong to.

        Raises:
            StageError: there are none yet, or the file cannot be written.
        """
        save_prototypes(Path(path), self.prototypes, self._mark)

    def load(self, path: str | Path) -> Self:
        """Read prototypes that `save` wrote, for the network that they were fitted on.

        Files of version 0.1 and those of runs do not say which network that is; there a warning is logged.

        Raises:
            ConfigError: no layer of the model can be used.
            WeightsError: the file is missing, damaged, something else, or of another network or other classes.
        """
        prototypes, mark = load_marked(Path(path))
        if mark is None:
            LOG.warning(
                "%s does not say which network its prototypes are of; that it is this one is taken for granted. "
                "fit(batches) and save(path) write it", path,
            )  # fmt: skip
        else:
            self._check_network(mark, str(path))
        self._prototypes, self._mark = prototypes, mark
        return self

    def _check_network(self, mark: NetworkMark, path: str) -> None:
        try:
            anatomy = examine(self.model, picture(self.model, mark.shape), self._layer, self._weights)
            found = NetworkMark.of(self.model, anatomy, mark.shape)
        except Tag2MaskError:
            raise
        except Exception as error:
            raise mark.other(
                path, f"images of {mark.shape}, which this one does not take ({type(error).__name__}: {error})"
            ) from error
        mark.check(self.model, found, path)

    def _head(self, anatomy: Anatomy) -> MapHead:
        if self._mark is not None and len(self._mark.scores) != len(anatomy.weights):
            raise self._mark.other(
                "LPCAM", f"{len(self._mark.scores)} classes, the model's classifier has {len(anatomy.weights)} now"
            )
        return LPCAMHead(self.prototypes, len(anatomy.weights), self.foreground_only)

    def _collect(
        self,
        stack: ExitStack,
        collectors: dict[int, Collector],
        image: int,
        columns: list[int],
        feature: Tensor,
        anatomy: Anatomy,
    ) -> None:
        """Hand the vectors of one image (D, h, w) to the collectors of its classes."""
        cams = normalise(CAMHead(anatomy.weights)(feature[None], torch.tensor(columns, device=feature.device)))
        for column, cam in zip(columns, cams, strict=True):
            if column not in collectors:
                collectors[column] = stack.enter_context(Collector(self.tau, name=f"class column {column}"))
            collectors[column].add(image, feature, cam)

    def _wanted(self, tags: Tensor, counts: Counter[int]) -> dict[int, list[int]]:
        """Images of a batch, each with the class columns that still want images; counts them."""
        wanted = {}
        limit = self.images_per_class
        for i, row in enumerate(tags.bool()):
            columns = [c for c in row.nonzero()[:, 0].tolist() if limit is None or counts[c] < limit]
            counts.update(columns)
            if columns:
                wanted[i] = columns
        return wanted

    def _build(self, collectors: dict[int, Collector]) -> Prototypes:
        if self._anatomy is None or not collectors:
            raise DataError("fit got no image with a tag: give batches of (images, tags) with ones among the tags")
        weights = self._anatomy.weights.cpu()
        present = torch.tensor([c in collectors for c in range(len(weights))])
        if not present.all():
            absent = (~present).nonzero()[:, 0].tolist()
            LOG.warning("fit saw no image of the class columns %s: their maps will be zero", absent)
        scorer = Scorer(weights, present)
        built = {
            c: build_class(*collectors[c].finish(), c, scorer, self.rules, self.clustering) for c in sorted(collectors)
        }
        return Prototypes({c: b.foreground for c, b in built.items()}, {c: b.context for c, b in built.items()})


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise DataError(f"fit expects pairs (images, tags), got {type(batch).__name__}")
    return batch[0], batch[1]
