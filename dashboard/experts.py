"""How experts look: one color each, everywhere, and told apart by color-blind eyes.

The colors are those of Okabe and Ito (2008); catalogue order decides, so an expert keeps its color
when params.yaml drops another. What lies beyond the palette is gray.
"""

from typing import NamedTuple

from atlas.catalogue import CATALOGUE, EXPERT_IDS

__all__ = ["PALETTE", "Expert", "color", "experts"]

PALETTE = ("#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#F0E442")
OTHER = "#8A8A8A"


class Expert(NamedTuple):
    """One expert as the pages show it."""

    id: str
    archetype: str
    prime_uses: str
    modality: str
    color: str


def color(expert_id: str) -> str:
    """Return an expert's color; gray for one that the catalogue does not have."""
    if expert_id not in EXPERT_IDS:
        return OTHER
    place = EXPERT_IDS.index(expert_id)
    return PALETTE[place] if place < len(PALETTE) else OTHER


def experts() -> tuple[Expert, ...]:
    """Return the catalogue's experts in its order."""
    return tuple(
        Expert(spec.id, spec.archetype, spec.prime_uses, spec.modality, color(spec.id))
        for spec in CATALOGUE
    )
