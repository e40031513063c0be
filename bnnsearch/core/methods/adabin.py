"""AdaBin: every filter has two values of its own in the place of +-1 (Tu et al., 2022).

    w = mu + sigma sign((w~ - mu) / sigma),   mu = mean w~,   sigma = sqrt(mean (w~ - mu)^2)      per filter

Gradients pass through mu and sigma too, and through sign by the error decay estimator, see `irnet`. The two values are
exported: over inputs of +-1 a layer is sigma times its binary sums, plus mu times the sum of what is below its kernel,
one more binary filter for all. A packed network computes just that.

The paper gives activations two values as well, beta +- alpha, one pair for a layer. Ours are +-1: alpha is the norm's
to learn, and a threshold is learned by the signs of `activation: rprelu`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnnsearch.core.methods.irnet import SMALLEST_STD, ErrorDecay


class Adabin(ErrorDecay):
    """Latent weights, two values per filter in the forward pass."""

    def view(self, weight: Tensor) -> Tensor:
        dims = tuple(range(1, weight.ndim))
        centre = weight.mean(dim=dims, keepdim=True)
        spread = (weight - centre).square().mean(dim=dims, keepdim=True).clamp(min=SMALLEST_STD**2).sqrt()
        return torch.addcmul(centre, spread, self.sign((weight - centre) / spread))
