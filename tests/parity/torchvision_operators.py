"""Lets the Python parts of torchvision be imported beside a build of torch for CPUs only.

The package's operators are compiled for another build and don't load; on import it registers
shapes for them, which fails unless they exist. They are only named here: whoever calls one fails.
Cutting and scaling images needs none of them.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec

OPERATORS = (
    "_deform_conv2d_backward", "_ps_roi_align_backward", "_ps_roi_pool_backward",
    "_roi_align_backward", "_roi_pool_backward", "deform_conv2d", "nms", "ps_roi_align",
    "ps_roi_pool", "qnms", "qroi_align", "roi_align", "roi_pool",
)  # fmt: skip


@functools.cache
def define() -> object:
    """Name the operators, once; the result keeps them alive."""
    if find_spec("torchvision") is None:
        return None
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
    return library
