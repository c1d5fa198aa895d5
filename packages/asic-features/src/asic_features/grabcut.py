"""Masks drawn again along edges by a cut through each photo's own colours, where OpenCV is installed."""

from __future__ import annotations

import numpy as np
import torch

from asic_features.extras import ExtraError
from asic_features.images import UInt8Image
from asic_flow.collection import FOREGROUND_THRESHOLD

# Probabilities times 255 beyond which a pixel is not asked again.
_SURELY_OBJECT = 230
_SURELY_GROUND = 26
_ROUNDS = 3
_GAUSSIANS = (1, 65)  # five of 13 numbers each


def check_grabcut() -> None:
    """Make sure that OpenCV is there, before anything takes time.

    Raises:
        ExtraError: It is not installed.
    """
    try:
        import cv2  # noqa: F401
    except ImportError:
        raise ExtraError("grabcut needs OpenCV: pip install 'asic-features[grabcut]', or go without it") from None


def tidy_masks(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Decide undecided pixels by GrabCut (Rother et al., 2004).

    Pixels above 90 % stay object and those below 10 % stay background. Of the others, those that change sides get a
    probability next to one half, the rest keep theirs.

    Args:
        images: (N, S, S, 3) uint8.
        masks: (N, S, S) uint8, probability of foreground times 255.

    Returns:
        (N, S, S) uint8. Masks that are empty, or decided everywhere, are as they were.
    """
    pairs = zip(images.cpu().numpy(), masks.cpu().numpy(), strict=True)
    return torch.from_numpy(np.stack([_tidy(image, mask) for image, mask in pairs]))


def _tidy(image: UInt8Image, mask: UInt8Image) -> UInt8Image:
    import cv2

    guess = np.select(
        [mask >= _SURELY_OBJECT, mask >= FOREGROUND_THRESHOLD, mask >= _SURELY_GROUND],
        [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD],
        cv2.GC_BGD,
    ).astype(np.uint8)
    on_object = mask >= FOREGROUND_THRESHOLD
    if not on_object.any() or on_object.all():  # OpenCV stops at a side without pixels
        return mask
    cv2.setRNGSeed(0)
    models = np.zeros(_GAUSSIANS), np.zeros(_GAUSSIANS)
    cut, _, _ = cv2.grabCut(image, guess, (0, 0, 0, 0), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = (cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)
    decided = np.where(found, np.maximum(mask, FOREGROUND_THRESHOLD), np.minimum(mask, FOREGROUND_THRESHOLD - 1))
    return decided.astype(np.uint8)
