"""The command line: every stage alone, a whole night, and what one asks of a home.

Bad input ends in one line on stderr and exit code 2, never in a traceback.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from atlas.errors import AtlasError, ConfigError
from pipelines import night as nights
from pipelines import notice, registry_commands
from pipelines.watch import command as watch

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Run ATLAS: from market bars to a promoted champion.

Examples:

  python -m pipelines all                                  the night on simulated markets

  python -m pipelines all --source files --data DIR        the night on an archive of your own

  python -m pipelines validate --market equity_daily       one stage, one market

  python -m pipelines report                               the last night's table and champion

  python -m pipelines predict EQD000                       the champion's answer for one symbol
""",
)
console = Console()

Home = Annotated[Path | None, typer.Option("--home", help="Folder of data/, artifacts/, var/.")]
Params = Annotated[Path | None, typer.Option(help="Configuration; default: params.yaml.")]
AsOf = Annotated[str | None, typer.Option(help="The night, such as 2026-11-20.")]
Source = Annotated[str | None, typer.Option(help="simulated, files, ccxt or yfinance.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of an archive, for files.")]
Market = Annotated[str | None, typer.Option(help="One market; default: all of params.yaml.")]
Variant = Annotated[str | None, typer.Option(help="cnn, moe_rule or moe_mlp; default: all.")]


def _market_stage(name: str, text: str, *, begins: bool = False) -> None:
    def command(
        market: Market = None,
        home: Home = None,
        params: Params = None,
        as_of: AsOf = None,
        source: Source = None,
        data: Data = None,
    ) -> None:
        night = nights.open_night(
            home, params, source=source, folder=data, as_of=as_of, begins=begins
        )
        with nights.alone(night.paths):
            for chosen in _markets(night, market):
                _say(f"{name} {chosen}", nights.stage(name, night, market=chosen))

    app.command(name, help=text)(command)


def _night_stage(name: str, text: str) -> None:
    def command(home: Home = None, params: Params = None, as_of: AsOf = None) -> None:
        night = nights.open_night(home, params, as_of=as_of, begins=False)
        with nights.alone(night.paths):
            _say(name, nights.stage(name, night))

    app.command(name, help=text)(command)


@app.command()
def ingest(
    market: Market = None,
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    source: Source = None,
    data: Data = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First day of a range, such as 2026-01-01.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The night it ends at, as --as-of.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched; write nothing.")
    ] = False,
) -> None:
    """Add the bars that a market's store lacks up to the night."""
    from pipelines.ingest_command import ingest_markets

    if to and as_of and to != as_of:
        raise ConfigError(f"--to {to} and --as-of {as_of} are two names of one night: give one")
    night = nights.open_night(
        home, params, source=source, folder=data, as_of=to or as_of, binds=not dry_run
    )
    ingest_markets(night, _markets(night, market), console, _say, start=start, dry_run=dry_run)


_night_stage("snapshot", "Record data/ in data.dvc and push it to DVC's remote.")
_night_stage("truth", "Write the known probabilities of the simulated markets.")
_market_stage("validate", "Check bars, quarantine bad rows, fail a market that has too many.")
_market_stage("fingerprint", "Compute fingerprints, one row per bar.")


@app.command()
def train(
    variant: Variant = None, home: Home = None, params: Params = None, as_of: AsOf = None
) -> None:
    """Train the CNN and both mixtures of experts, or one of them."""
    night = nights.open_night(home, params, as_of=as_of, begins=False)
    if variant is not None and variant not in nights.VARIANTS:
        raise ConfigError(f"variant {variant!r}: expected one of {', '.join(nights.VARIANTS)}")
    for chosen in (variant,) if variant else nights.VARIANTS:
        _say(f"train {chosen}", nights.stage("train", night, variant=chosen))


@app.command()
def tune(
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, pruned ones included.")] = 20,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds; then no new trial.")
    ] = None,
) -> None:
    """Search learning rate and optimizer inside each expert; goes on where it was killed."""
    from pipelines import tune as tuning

    night = nights.open_night(home, params, as_of=as_of, begins=False)
    found = tuning.run(
        night.paths, night.config, as_of=night.as_of, trials=trials, timeout_s=timeout
    )
    _say("tune", found)


@app.command()
def pretrain(
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    source: Source = None,
    data: Data = None,
) -> None:
    """Pre-train the kernels on unlabelled charts; goes on where it was killed."""
    from pipelines import pretrain as pretraining

    night = nights.open_night(home, params, source=source, folder=data, as_of=as_of, begins=False)
    _say("pretrain", pretraining.run(night.paths, night.config, as_of=night.as_of))


_night_stage("benchmark", "Score every model on the same windows and write the table.")
_night_stage("register", "Register the night's best candidate in MLflow.")
_night_stage("promote", "Make the candidate champion if it is proven better.")
registry_commands.add_to(app)
watch.add_to(app)


@app.command()
def data(
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    source: Source = None,
    data: Data = None,
) -> None:
    """Write every market's bars and record them in data.dvc."""
    night = nights.open_night(home, params, source=source, folder=data, as_of=as_of)
    with nights.alone(night.paths):
        for market in night.config.markets:
            _say(f"ingest {market}", nights.stage("ingest", night, market=market))
        _say("snapshot", nights.stage("snapshot", night))


@app.command("all")
def all_stages(
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    source: Source = None,
    data: Data = None,
) -> None:
    """Run a whole night in this process and print its table."""
    night = nights.open_night(home, params, source=source, folder=data, as_of=as_of, trains=True)
    try:
        nights.run_all(night, _say)
    except AtlasError as error:
        notice.send(night.paths, f"the night of {night.as_of:%Y-%m-%d} failed: {error}")
        raise
    _report(night)


@app.command()
def evidence(
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    source: Source = None,
    data: Data = None,
    jobs: Annotated[int | None, typer.Option(help="Models at once; default: one a core.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Only the first so many seeds.", min=1)] = None,
    unit: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the long benchmark: every rival, several seeds and cuts; resumes where it was ended."""
    from pipelines.evidence import run as runs

    night = nights.open_night(
        home, params, source=source, folder=data, as_of=as_of, begins=unit is None
    )
    if unit is not None:
        runs.one(night, unit)
        return
    runs.everything(night, _say, console, jobs=jobs, seeds=seeds)


@app.command()
def report(
    home: Home = None,
    params: Params = None,
    chart: Annotated[
        str | None, typer.Option(help="Draw this symbol's newest window as the model sees it.")
    ] = None,
) -> None:
    """Print the last night's benchmark table and the champion, or draw a symbol's window."""
    night = nights.open_night(home, params, begins=False, asks=True)
    if chart is None:
        _report(night)
        return
    from pipelines import chart_picture

    for path in chart_picture.save(night.paths, night.config, chart, as_of=night.as_of):
        console.print(f"chart {path}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def predict(
    target: Annotated[
        str, typer.Argument(help="A symbol of the store, or a .parquet or .csv file.")
    ],
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    model: Annotated[str, typer.Option(help="An alias or a version's number.")] = "champion",
) -> None:
    """Ask the champion about a symbol's next move."""
    from pipelines import predict as predictions

    night = nights.open_night(home, params, as_of=as_of, begins=False, asks=True)
    answers = predictions.predict(
        night.paths,
        night.config,
        target,
        as_of=night.as_of,
        which=model,
        is_dated=as_of is not None,
    )
    for answer in answers.to_dict("records"):
        for name, value in answer.items():
            console.print(f"{name:<24} {_short(value)}", markup=False, highlight=False)


@app.command()
def audit(
    market: Market = None, home: Home = None, params: Params = None, as_of: AsOf = None
) -> None:
    """Poison the future, shift labels, shuffle time; print what changed; exit 1 on a leak."""
    from pipelines import audit as audits

    night = nights.open_night(home, params, as_of=as_of, begins=False)
    chosen = _markets(night, market)
    found = audits.run(night.paths, night.config, as_of=night.as_of, markets=chosen)
    if not audits.show(found, console):
        raise typer.Exit(1)


@app.command()
def ledger(home: Home = None, params: Params = None) -> None:
    """Print every model that was ever scored on a test span, and what luck explains."""
    from pipelines import ledger_table

    night = nights.open_night(home, params, begins=False)
    ledger_table.show(night.paths, console)


@app.command()
def check(
    home: Home = None,
    params: Params = None,
    as_of: AsOf = None,
    source: Source = None,
    data: Data = None,
) -> None:
    """Check parameters and input without running anything."""
    night = nights.open_night(home, params, source=source, folder=data, as_of=as_of, trains=True)
    console.print(f"{night.as_of.date()} {night.config.source} {night.paths.home}")


def _markets(night: nights.Night, market: str | None) -> list[str]:
    if market is None:
        return list(night.config.markets)
    if market not in night.config.markets:
        known = ", ".join(night.config.markets)
        raise ConfigError(f"market {market!r} is not in params.yaml, which has {known}")
    return [market]


def _say(step: str, summary: dict[str, Any]) -> None:
    shown = {key: value for key, value in summary.items() if not isinstance(value, (dict, list))}
    if shown.pop("skipped", False):
        console.print(f"{step:<26} unchanged, skipped", markup=False)
        return
    facts = "  ".join(f"{key} {_short(value)}" for key, value in shown.items() if key != "market")
    console.print(f"{step:<26} {facts}", soft_wrap=True, markup=False, highlight=False)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _report(night: nights.Night) -> None:
    from pipelines import report as reports

    reports.show(night.paths, console)


def main() -> int:
    """Run the command line; return its exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pipelines.training_progress").setLevel(logging.INFO)
    logging.getLogger("pipelines.pretrain").setLevel(logging.INFO)
    logging.getLogger("pipelines.tune").setLevel(logging.INFO)
    logging.getLogger("pipelines.warm").setLevel(logging.INFO)
    try:
        app()
    except AtlasError as error:
        for line in str(error).splitlines():
            Console(stderr=True).print(
                f"error: {line}", soft_wrap=True, markup=False, highlight=False
            )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
