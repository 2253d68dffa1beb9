"""What can be known of the simulated markets: the figures of docs/ceilings.md.

`python -m benchmarks.ceilings` draws the posterior's sample and a test set, fits, and prints how
good the posterior is, how far the informed ceiling lies below Bayes, and how easily the law is
named by a gate's inputs.
Some two CPU-minutes and 2 GiB.
"""

import resource
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml

from atlas.ceilings import (
    PATHS,
    WINDOWS,
    bayes,
    check_posterior,
    fit_law_posterior,
    informed,
    law_named_by_fingerprint,
)
from atlas.config import ATLASConfig
from atlas.draws import draw_markets
from atlas.shares import Windows, model_shares, too_easy

__all__ = ["main"]

PARAMS = Path(__file__).parent.parent / "params.yaml"


def main(
    windows: Annotated[int, typer.Option(help="of the posterior's sample, a market")] = WINDOWS,
    paths: Annotated[int, typer.Option(help="of the posterior's sample, a market")] = PATHS,
    tested: Annotated[int, typer.Option(help="test windows, a market")] = 50_000,
    sample_seed: Annotated[int, typer.Option(help="of the posterior's sample")] = 901,
    test_seed: Annotated[int, typer.Option(help="of the test set")] = 201,
) -> None:
    """Print the table."""
    config = ATLASConfig.parse(yaml.safe_load(PARAMS.read_text(encoding="utf-8")))
    sample = draw_markets(config, seed=sample_seed, train=windows, paths=paths)
    _say("drawn", f"{windows:,} windows a market of {paths} paths")
    posterior = fit_law_posterior(sample)
    _say("fitted", f"a text of {len(posterior):,} characters")
    fresh = draw_markets(config, seed=test_seed, test=tested, paths=min(250, tested))
    found = check_posterior(posterior, fresh)
    _say("posterior", ", ".join(f"{name} {value:.4f}" for name, value in found._asdict().items()))
    rows = {}
    for market, own in fresh.items():
        ends = own.split.test
        q = informed(posterior, own, ends)
        path = np.searchsorted(own.panel.offsets, ends, side="right")
        rows[market] = Windows(bayes(own, ends), q, q, path)
    for name, markets in [("all markets", rows), *((m, {m: own}) for m, own in rows.items())]:
        shares = model_shares(markets)
        lift, gain = shares.bayes_lift, shares.bayes_gain
        told = f"lift {lift.value:.4f} ± {lift.error:.4f}, gain {gain.value:.4f} ± {gain.error:.4f}"
        _say(f"informed of Bayes, {name}", told)
    named = law_named_by_fingerprint(sample, fresh)
    _say("law named by fingerprint and timeframe", f"{named:.4f}")
    for line in too_easy(named, {}):
        typer.echo(line)


def _say(what: str, told: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    typer.echo(f"{what:<40} {told}  [{time.process_time():.0f} CPU-s, peak {peak:.2f} GiB]")


if __name__ == "__main__":
    typer.run(main)
