"""The native kernels of training: what each takes; `native/train/` says what each does."""

from __future__ import annotations

from typing import Any

from bnnsearch import native

PASSES: dict[str, native.Signature] = {
    "sign_rows": ("iiiipp", False),
    "slope_rows": ("iiiiippp", False),
    "standardised_slope_rows": ("iiiiippp", False),
    "standardise_rows": ("iiippp", False),
    "standardise_slope_rows": ("iiipppp", False),
    "channel_sums": ("iiiiippp", False),
    "batch_statistics": ("iiifpp", False),
    "affine_add_clamp": ("iiiiipppp", False),
    "clamp_slope_sums": ("iiiiippppppp", False),
    "slope_factors": ("iiipppp", False),
    "norm_slope": ("iiiiipppp", False),
}
"""Elementwise work."""

CONVOLUTION: dict[str, native.Signature] = {
    "pack_signs": ("iipppp", False),
    "pack_filters": ("ppppp", True),
    "sign_bases": ("pippp", False),
    "convolve_signs": ("iippppppp", False),
    "index_signs": ("iippp", False),
    "weight_slopes": ("iipippp", False),
    "image_slopes": ("iipiippppp", False),
    "filter_bytes": ("ii", True),
    "lay_filters": ("piip", False),
    "gathered_bytes": ("i", True),
}
"""Convolutions of signs; the last three are of `native/packed/`, whose filters they read."""

SIGNATURES = PASSES | CONVOLUTION


def bind(variant: str, name: str) -> Any:
    """A kernel as it is compiled for an instruction set."""
    return native.bind(variant, name, SIGNATURES[name])


def __getattr__(name: str) -> Any:
    """Load a kernel at its first use."""
    return native.load(globals(), name)
