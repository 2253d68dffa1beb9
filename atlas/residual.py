"""What the network adds to: its standardized view of a fingerprint, the base, and calibration.

All of it is buffers, fitted by closed forms outside of gradient descent: the standardization and
the base on training rows, α and Platt scaling on validation rows. Rows are per market; one more
row at the end serves a market unknown to the model (index −1): no intercept, a plain mean of the
three past variances, α = 1, no recalibration.
"""

import torch
from torch import Tensor, nn

from atlas.data_fingerprint import FINGERPRINT_COLUMNS

__all__ = ["DESCRIBED", "Base", "Calibration", "Standardizer"]

DESCRIBED = (*FINGERPRINT_COLUMNS, "log_timeframe", "vol_ratio")
_LOGGED = ("vol30", "spread", "atr")  # spread over decades, always above 0
_LIMIT = 5.0  # standard deviations: one broken bar must not dominate a batch


class Standardizer(nn.Module):
    """Turns raw fingerprints into features: logs, zero mean, unit variance, missing flags.

    The columns are `DESCRIBED`; a missing or infinite value reads 0 and raises its flag.
    """

    mean: Tensor
    scale: Tensor
    is_logged: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(DESCRIBED)))
        self.register_buffer("scale", torch.ones(len(DESCRIBED)))
        is_logged = torch.tensor([name in _LOGGED for name in DESCRIBED])
        self.register_buffer("is_logged", is_logged, persistent=False)

    @property
    def width(self) -> int:
        """How many features come out."""
        return 2 * len(DESCRIBED)

    def fit(self, described: Tensor) -> None:
        """Take mean and standard deviation from training rows (N, G), missing values left out.

        A column without a value gets (0, 1), a constant one the scale 1.
        """
        values = self._logged(described.double())
        is_known = values.isfinite()
        count = is_known.sum(0).clamp_min(1)
        values = values.where(is_known, 0.0)
        mean = values.sum(0) / count
        variance = ((values - mean).square() * is_known).sum(0) / count
        self.mean.copy_(mean)
        self.scale.copy_(variance.sqrt().where(variance > 1e-12, 1.0))

    def forward(self, described: Tensor) -> Tensor:
        """Return features (B, 2G): values in ±5 and then flags, of raw columns (B, G)."""
        values = self._logged(described)
        is_known = values.isfinite()
        values = values.where(is_known, self.mean)  # reads as 0, and no NaN reaches a gradient
        scaled = ((values - self.mean) / self.scale).clamp(-_LIMIT, _LIMIT)
        return torch.cat([scaled, (~is_known).to(scaled.dtype)], 1)

    def _logged(self, described: Tensor) -> Tensor:
        return torch.where(self.is_logged, described.clamp_min(0).log(), described)


class Base(nn.Module):
    """The best simple rival: a logit linear in skip and features, and HAR-X.

    HAR-X is HAR (Corsi, 2009), which has three slopes, with the same numbers beside it as the logit
    has; here each market has slopes of its own.

    Args:
        markets: M of them.
        features: P of them for each modality.
    """

    intercept: Tensor
    har: Tensor

    def __init__(self, markets: int, features: dict[str, int]) -> None:
        super().__init__()
        self.register_buffer("intercept", torch.zeros(markets + 1))
        self.register_buffer(
            "har", torch.tensor([[0.0, 1 / 3, 1 / 3, 1 / 3]]).repeat(markets + 1, 1)
        )
        for modality, width in features.items():
            self.register_buffer(f"weight_{modality}", torch.zeros(width))
            self.register_buffer(f"beside_{modality}", torch.zeros(markets + 1, width))

    def weight(self, modality: str) -> Tensor:
        """Return the slopes (P,) that the markets of a modality share."""
        return self.get_buffer(f"weight_{modality}")

    def logit(self, features: Tensor, market: Tensor, modality: str) -> Tensor:
        """Return logits (B,) of features (B, P) and markets (B,) int64."""
        return self.intercept[market] + features @ self.weight(modality)

    def beside(self, modality: str) -> Tensor:
        """Return each market's slopes (M + 1, P) of log RV on the features."""
        return self.get_buffer(f"beside_{modality}")

    def log_rv(self, har: Tensor, features: Tensor, market: Tensor, modality: str) -> Tensor:
        """Return log realised variance (B,) of three past ones (B, 3) and features (B, P)."""
        weights = torch.cat([self.har, self.beside(modality)], 1)[market]  # (B, 4 + P)
        return weights[:, 0] + (weights[:, 1:] * torch.cat([har, features], 1)).sum(1)


class Calibration(nn.Module):
    """Per market: α of both outputs, and Platt scaling (Platt, 1999) of the logit."""

    alpha: Tensor
    platt: Tensor

    def __init__(self, markets: int) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.ones(markets + 1, 2))  # direction, volatility
        self.register_buffer("platt", torch.tensor([[1.0, 0.0]]).repeat(markets + 1, 1))

    def probability(self, logit: Tensor, market: Tensor) -> Tensor:
        """Return P(up) (B,) of logits (B,) and markets (B,) int64."""
        platt = self.platt[market]
        return torch.sigmoid(platt[:, 0] * logit + platt[:, 1])
