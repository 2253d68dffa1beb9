"""Say when a fingerprint is unlike the training set, so that the model abstains, not guesses.

Per market: the Mahalanobis distance of the fingerprint from the median of its training rows. The
scale is from the 99.5 % quantiles, and the correlation is taken of rows held within ±4, so that a
few broken bars do not widen what counts as usual. The bound is the training rows' own 99.9 %
quantile, a fifth farther out: a market that drifts a little is still answered.

All of it is buffers, fitted on training rows alone; a market that was not fitted is never unlike.
"""

import torch
from torch import Tensor, nn

from atlas.residual import DESCRIBED

__all__ = ["Familiarity"]

QUANTILE = 0.999
MARGIN = 1.2
MIN_ROWS = 100  # fewer say too little of a tail
SHRINK = 0.1  # of the correlation towards none
_HELD = 4.0
_FARTHEST = 1e4  # scaled units: an absurd value is far, and its square is still finite
_TAILS = (0.005, 0.995)
_NORMAL_TAIL = 2.576  # standard deviations of a normal up to there
_LOGGED = ("vol30", "spread", "atr", "kurtosis")  # above 0, with long tails


class Familiarity(nn.Module):
    """How far a raw described row lies from its market's training rows.

    Args:
        markets: M of them; one more, of index −1, is a market unknown to the model.
    """

    center: Tensor
    scale: Tensor
    precision: Tensor
    bound: Tensor
    is_logged: Tensor

    def __init__(self, markets: int) -> None:
        super().__init__()
        width = len(DESCRIBED)
        self.register_buffer("center", torch.zeros(markets + 1, width))
        self.register_buffer("scale", torch.ones(markets + 1, width))
        self.register_buffer("precision", torch.eye(width).repeat(markets + 1, 1, 1))
        self.register_buffer("bound", torch.full((markets + 1,), torch.inf))
        is_logged = torch.tensor([name in _LOGGED for name in DESCRIBED])
        self.register_buffer("is_logged", is_logged, persistent=False)

    def fit(self, index: int, described: Tensor) -> None:
        """Fit a market's place on its training rows (N, G), NaN where unknown.

        A column that never varies says nothing and is left out, as is one that is never known.
        Fewer than 100 rows leave the market without a bound.
        """
        if len(described) < MIN_ROWS:
            return
        values = self._logged(described.double())
        values = values.where(values.isfinite(), torch.nan)
        center = values.nanmedian(0).values.nan_to_num()
        ends = torch.tensor(_TAILS, dtype=torch.float64)
        low, high = torch.nanquantile(values, ends, dim=0).nan_to_num()
        # the wider of the two: half of a column may be equal, and tails are heavier than normal
        scale = torch.maximum(center - low, high - center) / _NORMAL_TAIL
        varies = scale > 1e-6
        self.center[index] = center.float()
        self.scale[index] = scale.where(varies, torch.inf).float()
        held = self._scaled(described, index).double().clamp(-_HELD, _HELD)
        covariance = held.T @ held / len(held)
        size = covariance.diagonal().clamp_min(1e-6).sqrt()
        correlation = covariance / size / size[:, None]
        eye = torch.eye(len(size), dtype=torch.float64)
        shrunk = (1 - SHRINK) * correlation + SHRINK * eye
        shrunk = shrunk.where(varies & varies[:, None], eye)
        self.precision[index] = (torch.linalg.inv(shrunk) / size / size[:, None]).float()
        market = torch.full((len(described),), index)
        distance = self(described.float(), market)
        self.bound[index] = MARGIN * torch.quantile(distance, QUANTILE)

    def forward(self, described: Tensor, market: Tensor) -> Tensor:
        """Return distances (B,) of raw rows (B, G) of markets (B,) int64; missing values add 0."""
        scaled = self._scaled(described, market)
        return torch.einsum("bi,bij,bj->b", scaled, self.precision[market], scaled).sqrt()

    def unlike(self, described: Tensor, market: Tensor) -> Tensor:
        """Say which rows (B,) lie farther out than their market's bound."""
        distance: Tensor = self(described, market)
        return distance > self.bound[market]

    def _scaled(self, described: Tensor, market: Tensor | int) -> Tensor:
        scaled = (self._logged(described) - self.center[market]) / self.scale[market]
        return scaled.where(scaled.isfinite(), 0.0).clamp(-_FARTHEST, _FARTHEST)

    def _logged(self, described: Tensor) -> Tensor:
        return torch.where(self.is_logged, described.clamp_min(1e-12).log(), described)
