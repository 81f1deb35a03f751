"""Convolution at chosen pixels only."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """What lies under a kernel at chosen pixels.

    Args:
        features: (1, C, H, W).
        mask_h_idx: (P,) int64 rows of the output.
        mask_w_idx: (P,) int64 columns of the output.
        data_col: (C * kernel_h * kernel_w, P), filled in place; 0 outside the map.
        kernel_h, kernel_w, pad_h, pad_w: kernel and padding along each side.
    """
    # the kernel reaches beyond the padding where a chosen pixel of the input has no output pixel
    padded = pad(features[0], (pad_w, kernel_w, pad_h, kernel_h))
    taps = [padded[:, mask_h_idx + down, mask_w_idx + over] for down in range(kernel_h) for over in range(kernel_w)]
    for tap, values in enumerate(taps):
        data_col.view(len(padded), len(taps), -1)[:, tap] = values


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, *, height: int, width: int, channels: int
) -> None:
    """Write columns to chosen pixels.

    Args:
        col: (channels, P).
        mask_h_idx: (P,) int64 rows.
        mask_w_idx: (P,) int64 columns.
        im: (1, channels, height, width), written in place at these pixels.
        height, width, channels: of ``im``.
    """
    im.view(channels, height, width)[:, mask_h_idx, mask_w_idx] = col
