"""One cluster of varied photos: the preparation that the paper tries on Flickr30k (section 5)."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image

from colorhub import hub
from colorhub.captions import middle
from colorhub.color import rgb_to_lab
from colorhub.data import Rows, decode_row, guarded
from colorhub.encoders import Encoder
from colorhub.errors import OptionError, PhotoError

Features = Callable[[Image.Image], np.ndarray]
"""A photo to what it is clustered by: (D,)."""

COMPONENTS = 32  # directions of the features that the mixture sees
_THUMBNAIL, _SIDE = 8, 128  # pixels


def thumbnail(photo: Image.Image) -> np.ndarray:
    """The Lab values of the photo's middle brought to 8 x 8 pixels: (192,)."""
    square = np.array(middle(photo, _THUMBNAIL))
    return rgb_to_lab(torch.from_numpy(square).permute(2, 0, 1)[None] / 255).flatten().numpy()


def backbone_features(source: str, network: str) -> Features:
    """The means of the deepest maps of a pretrained encoder, one of `encoders.NAMES`.

    `source` is a .safetensors file or a Hub repository. Raises NotFoundError, HubError or
    OptionError.
    """
    encoder = Encoder(network, inputs=3).eval()
    encoder.load_backbone(hub.backbone(source))

    @torch.no_grad()
    def features(photo: Image.Image) -> np.ndarray:
        square = np.array(middle(photo, _SIDE))
        rgb = torch.from_numpy(square).permute(2, 0, 1)[None] / 127.5 - 1
        return encoder(rgb)[-1].mean(dim=(2, 3))[0].numpy()

    return features


def one_cluster(
    rows: Rows, *, clusters: int, keep: int, seed: int, features: Features = thumbnail
) -> tuple[Rows, list[int]]:
    """The rows of one of several clusters, and how many photos each has, the largest first.

    A Gaussian mixture is fitted to the features' first principal components; photos that cannot be
    read are in no cluster. The same rows, which are no stream, and seed give the same clusters.
    Raises OptionError if there are fewer photos than clusters.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    places, seen = [], []
    for place, vector in _vectors(rows, features):
        places.append(place)
        seen.append(vector)
    if len(seen) < clusters:
        raise OptionError(f"--cluster is {clusters}, but there are {len(seen)} photos.")
    matrix = np.stack(seen).astype(np.float64)
    size = min(COMPONENTS, *matrix.shape)
    matrix = PCA(size, random_state=seed % 2**32).fit_transform(matrix)
    matrix /= max(matrix.std(), 1e-8)
    mixture = GaussianMixture(
        clusters, covariance_type="diag", reg_covar=1e-3, random_state=seed % 2**32
    )
    labels = mixture.fit_predict(matrix)
    counts = np.bincount(labels, minlength=clusters)
    order = np.argsort(-counts, kind="stable")
    chosen = [place for place, label in zip(places, labels, strict=True) if label == order[keep]]
    return rows.select(chosen), counts[order].tolist()


def _vectors(rows: Rows, features: Features) -> Iterator[tuple[int, np.ndarray]]:
    for place, row in enumerate(guarded(rows)):
        try:
            yield place, features(decode_row(row, at_least=2 * _SIDE))
        except PhotoError:
            continue
