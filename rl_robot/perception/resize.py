"""The small picture that policies learn from."""

import cv2
import numpy as np
from numpy.typing import NDArray


def policy_image(rgb: NDArray[np.uint8], size: int = 64) -> NDArray[np.uint8]:
    """Return the whole view (H, W, 3) averaged down to (size, size, 3).

    The full width and height are kept, so a 4:3 view is squeezed: what the edges show matters
    more to a policy than square pixels.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ValueError(f"an RGB uint8 image (H, W, 3) is needed, not {rgb.dtype} {rgb.shape}")
    small = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
