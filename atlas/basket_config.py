"""The block `basket:` of params.yaml: which series a cross-asset expert sees, and for whom.

Absent by default, and then nothing sees any other series. What can be wrong without looking at bars
is told here; what the bars lack is told by `pipelines.baskets`.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["HEDGED", "REQUIRED", "BasketConfig", "misfit"]

HEDGED: Final = "moe_mlp_hedge"  # the variant of the table with the cross-asset expert
REQUIRED: Final = ("tips", "energy", "gold")  # what a hedge of inflation is told by, at least


class BasketConfig(BaseModel):
    """A basket of series, each a market/symbol of the home, and the markets that see it.

    Attributes:
        series: by name within the basket, `tips`, `energy` and `gold` at least; eight at most.
        markets: of charts.
        stale_days: so long a series' last bar stands for newer ones after its close.
        overlap: least sessions of each market at whose close the whole basket is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    series: dict[str, str] = Field(max_length=8)
    markets: tuple[str, ...] = Field(min_length=1)
    stale_days: float = Field(default=5.0, gt=0, le=31)
    overlap: int = Field(default=250, ge=1)

    @field_validator("series")
    @classmethod
    def _complete(cls, series: dict[str, str]) -> dict[str, str]:
        lacking = [name for name in REQUIRED if name not in series]
        if lacking:
            raise ValueError(
                f"expected at least {', '.join(REQUIRED)}, each a market/symbol; {lacking} missing"
            )
        for name, spec in series.items():
            market, _, symbol = spec.partition("/")
            if not name.isidentifier() or not market or not symbol or "/" in symbol:
                raise ValueError(
                    f"{name!r}: {spec!r}: expected a name: market/symbol, such as "
                    "gold: futures_30min/GOLD"
                )
        if len(set(series.values())) < len(series):
            raise ValueError(f"expected distinct series; got {list(series.values())}")
        return series


def misfit(basket: BasketConfig, modalities: Mapping[str, str]) -> str:
    """Say what of a basket does not fit the markets of params, empty if all does.

    Args:
        basket: to look at.
        modalities: by market, `chart` or `surface`.
    """
    named = {f"markets {market!r}": market for market in basket.markets}
    named |= {
        f"series.{name} {spec!r}": spec.partition("/")[0] for name, spec in basket.series.items()
    }
    charts = [market for market, modality in modalities.items() if modality == "chart"]
    for place, market in named.items():
        if market not in charts:
            return f"basket.{place}: expected a market of charts ({', '.join(charts)})"
    return ""
