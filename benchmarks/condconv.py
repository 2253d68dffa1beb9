"""Shared dictionary, banks mixed per expert and whole networks: parameters, bytes, time.

`python -m benchmarks.condconv` prints one row a form. Time is interleaved, ONNX Runtime, one
thread, at batches of 1 and 32; lift and gain need trainings and are not measured here.
"""

import typer
from torch import nn

from atlas.moe import Network, build_model
from atlas.onnx_export import export, input_names
from benchmarks.balance import configuration
from benchmarks.harness import interleave, ratio
from benchmarks.latency import session_of, windows

ROUNDS = 40
CHART_EXPERTS = 5


def main() -> None:
    """Measure the forms that have one graph; whole networks are counted from the plain one's."""
    forms: dict[str, Network] = {
        "cnn": build_model(configuration(), variant="cnn"),
        "dictionary": build_model(configuration(), variant="moe_mlp"),
        "bank per expert": build_model(configuration(bank="expert"), variant="moe_mlp"),
    }
    sizes = {name: (_count(net), len(export(net, windows(2, 0)))) for name, net in forms.items()}
    whole = CHART_EXPERTS + 1
    sizes["whole networks"] = (whole * sizes["cnn"][0], whole * sizes["cnn"][1])
    for name, (parameters, size) in sizes.items():
        typer.echo(f"{name:<16} {parameters:8,} parameters {size / 1024:8.0f} KiB")
    for rows in (1, 32):
        inputs = windows(rows, 7)
        works = {}
        for name, net in forms.items():
            feed = {field: getattr(inputs, field).numpy() for field in input_names(net)}
            session = session_of(net)
            works[name] = lambda session=session, feed=feed: [
                session.run(None, feed) for _ in range(5)
            ]
        seconds = interleave(works, ROUNDS)
        for name in works:
            claim = ratio(name, seconds[name], seconds["cnn"], None)
            typer.echo(f"batch {rows:<3} {name:<16} {claim.value:6.3f} times the CNN")


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


if __name__ == "__main__":
    typer.run(main)
