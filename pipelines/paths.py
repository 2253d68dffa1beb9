"""Where things lie. A home holds data/, artifacts/ and var/; every stage is handed one `Paths`.

Only ingest writes data/. Everything a stage makes goes to artifacts/. Runtime state (Airflow's
home, MLflow's database, checkpoints, stamps, logs) goes to var/, which git ignores.
"""

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROJECT", "Paths"]

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Paths:
    """The folders of one home; `Paths(PROJECT)` is the project's own."""

    home: Path

    @property
    def data(self) -> Path:
        """Raw bars and surfaces, bad rows included; only ingest writes here."""
        return self.home / "data"

    @property
    def artifacts(self) -> Path:
        """What stages make."""
        return self.home / "artifacts"

    @property
    def var(self) -> Path:
        """Runtime state, never versioned."""
        return self.home / "var"

    @property
    def binding(self) -> Path:
        """The file that binds this home to one source."""
        return self.var / "home.json"

    @property
    def lock(self) -> Path:
        """The lock that lets one night run at a time."""
        return self.var / "night.lock"

    @property
    def data_dvc(self) -> Path:
        """DVC's record of data/."""
        return self.home / "data.dvc"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database, or its server where a home's nights run on many workers."""
        if self.mlflow_server.is_file():
            return str(json.loads(self.mlflow_server.read_text(encoding="utf-8"))["uri"])
        return f"sqlite:///{self.var / 'mlflow' / 'mlflow.db'}"

    @property
    def parent(self) -> Path:
        """The version that trainings start from where a reproduction laid one, see `warm`."""
        return self.var / "parent"

    @property
    def mlflow_server(self) -> Path:
        """The file that names the server, in a home that has one."""
        return self.var / "mlflow" / "server.json"

    @property
    def mlflow_login(self) -> Path:
        """User and password of that server, a line each, for the owner alone."""
        return self.var / "mlflow" / "login"

    @property
    def mlflow_artifacts(self) -> Path:
        """Files of MLflow's runs and models."""
        return self.var / "mlflow" / "artifacts"

    @property
    def benchmark(self) -> Path:
        """The table, as Parquet, JSON and text."""
        return self.artifacts / "benchmark"

    @property
    def tuning(self) -> Path:
        """Tuned settings, one JSON file an id."""
        return self.artifacts / "tuning"

    @property
    def pretraining(self) -> Path:
        """Pre-trained kernels, a safetensors file and its card an id."""
        return self.artifacts / "pretraining"

    @property
    def night(self) -> Path:
        """Which night was begun last."""
        return self.artifacts / "night.json"

    def bars(self, market: str) -> Path:
        """Raw files of one market."""
        return self.data / "bars" / market

    def quarantine(self, market: str) -> Path:
        """Keys and reasons of the rows that readers drop."""
        return self.artifacts / "quarantine" / f"{market}.parquet"

    def warnings(self, market: str) -> Path:
        """Keys and reasons of the rows that stay and that people should look at."""
        return self.artifacts / "warnings" / f"{market}.parquet"

    def sessions(self, market: str) -> Path:
        """The sessions that lack bars or quotes, or hold bars at odd hours."""
        return self.artifacts / "sessions" / f"{market}.parquet"

    def data_docs(self, night: str, market: str) -> Path:
        """The page that shows a market's validation in one night."""
        return self.var / "data_docs" / night / f"{market}.html"

    def validation(self, market: str) -> Path:
        """The outcome of a market's validation."""
        return self.artifacts / "validation" / f"{market}.json"

    def fingerprints(self, market: str) -> Path:
        """Fingerprints of one market, one row per bar."""
        return self.artifacts / "fingerprints" / f"{market}.parquet"

    def adjustments(self, market: str) -> Path:
        """Splits and dividends that restated stored bars of a market."""
        return self.artifacts / "adjustments" / f"{market}.json"

    def truth(self, market: str) -> Path:
        """The known probabilities of a simulated market; figures use them, no model does."""
        return self.artifacts / "truth" / f"{market}.parquet"

    def model(self, variant: str) -> Path:
        """Weights, configuration and predictions of one trained variant."""
        return self.artifacts / "models" / variant

    def pretrained(self, chosen: str) -> Path:
        """Weights of one pre-training, by its id."""
        return self.pretraining / f"{chosen}.safetensors"

    def checkpoints(self, variant: str) -> Path:
        """Checkpoints of a training under way."""
        return self.var / "checkpoints" / variant
