"""What docker/compose.yaml promises, and how a home takes the form of many workers."""

import re
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from atlas.errors import HomeError
from pipelines import claim
from pipelines.files import read_json, write_json
from pipelines.paths import PROJECT, Paths
from services import airflow, distributed

COMPOSE = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
WITHOUT = {"init"}  # it ends before the others start


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every published port is on 127.0.0.1, and the stores publish none."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert COMPOSE["networks"]["stores"]["internal"]


def test_every_service_is_pinned_watched_and_no_root() -> None:
    """Each has an exact tag, a health check, a user that is not root, and no capability."""
    for name, service in SERVICES.items():
        assert re.search(r":\d+\.\d+", service["image"]), name
        assert "ATLAS_UID:-1000" in service["user"], name
        assert service["cap_drop"] == ["ALL"], name
        assert name in WITHOUT or service["healthcheck"]["test"], name


def test_no_secret_is_in_an_environment() -> None:
    """What sounds like a secret is read from a file; no address holds a password."""
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD|FERNET|BROKER_URL", key) and "PASSWORDS_FILE" not in key:
                assert "/run/secrets/" in value, f"{name} {key}"
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{name} {key}"
    used = {one for service in SERVICES.values() for one in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])


def test_containers_have_the_time_outs_of_the_services(tmp_path: Path) -> None:
    """What airflow.cfg says natively of patience stands in compose too."""
    paths = Paths(tmp_path)
    distributed.settle(paths, 2)
    text = airflow._configuration(paths, airflow.home(paths))
    said = dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))
    variables = SERVICES["airflow-worker"]["environment"]
    for key in ("task_instance_heartbeat_timeout", "task_queued_timeout",
                "task_queued_timeout_check_interval", "num_stuck_in_queued_retries",
                "orphaned_tasks_check_interval"):  # fmt: skip
        assert variables[f"AIRFLOW__SCHEDULER__{key.upper()}"] == said[key]
    assert variables["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"] == said["max_failed_heartbeats"]
    assert 30 <= int(said["task_instance_heartbeat_timeout"]) <= 60
    assert 30 <= int(said["task_queued_timeout"]) <= 60


def test_secrets_of_compose_are_long_private_and_kept(tmp_path: Path) -> None:
    """docker/secrets.sh makes every file that compose names, and changes none the second time."""
    folder = tmp_path / "docker"
    folder.mkdir()
    text = (PROJECT / "docker" / "secrets.sh").read_text()
    (folder / "secrets.sh").write_text(text.replace("id -u) != 0", "id -u) != x"))
    made = []
    for _ in range(2):
        subprocess.run(["bash", folder / "secrets.sh"], check=True, capture_output=True)
        files = sorted((folder / "secrets").iterdir())
        made.append({path.name: path.read_text() for path in files})
    assert made[0] == made[1]
    assert set(made[0]) == set(COMPOSE["secrets"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len(made[0]["fernet_key"]) == 44
    assert all(len(made[0][name]) >= 86 for name in ("jwt_secret", "mlflow_key", "redis_password"))


def test_images_are_pinned_by_digest_on_demand(tmp_path: Path) -> None:
    """docker/digests.sh asks for every image's digest once and keeps what else is in .env."""
    folder, programs = tmp_path / "docker", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name in ("digests.sh", "compose.yaml"):
        (folder / name).write_text((PROJECT / "docker" / name).read_text())
    (folder / ".env").write_text("ATLAS_UID=7\nREDIS_IMAGE=redis:1.0@sha256:old\n")
    stand_in = programs / "docker"
    digest = "sha256:" + "0a" * 32
    stand_in.write_text(f'#!/bin/sh\necho "$4" >> {tmp_path}/asked\necho {digest}\n')
    stand_in.chmod(0o755)
    variables = {"PATH": f"{programs}:/usr/bin:/bin"}
    subprocess.run(["bash", folder / "digests.sh"], check=True, env=variables, capture_output=True)
    asked = (tmp_path / "asked").read_text().split()
    assert [one.partition(":")[0] for one in asked] == ["postgres", "python", "redis"]
    kept = (folder / ".env").read_text().splitlines()
    assert kept[0] == "ATLAS_UID=7"
    assert sorted(kept[1:]) == sorted(
        f"{one.partition(':')[0].upper()}_IMAGE={one}@{digest}" for one in asked
    )
    stand_in.write_text("#!/bin/sh\necho no such manifest\n")
    failed = subprocess.run(
        ["bash", folder / "digests.sh"], check=False, env=variables, capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert "got 'no such manifest'" in failed.stderr
    assert (folder / ".env").read_text().splitlines() == kept


def test_a_home_keeps_its_form(tmp_path: Path) -> None:
    """A home with a registry in SQLite takes no workers; one with workers keeps its ports."""
    near, far = Paths(tmp_path / "near"), Paths(tmp_path / "far")
    assert distributed.settle(near, 0) is None
    (near.var / "mlflow").mkdir(parents=True)
    (near.var / "mlflow" / "mlflow.db").touch()
    with pytest.raises(HomeError, match="registry in SQLite"):
        distributed.settle(near, 2)
    first = distributed.settle(far, 3)
    assert first is not None
    assert distributed.settle(far, 0) == first
    with pytest.raises(HomeError, match="expected 1 to 8 workers, got 9"):
        distributed.settle(far, 9)


def test_passwords_are_private_and_in_no_address(tmp_path: Path) -> None:
    """A password has 64 bytes at mode 0600; PostgreSQL's is in no address, only in the passfile."""
    paths = Paths(tmp_path)
    found = distributed.settle(paths, 1)
    assert found is not None
    secret = distributed.password(paths, "postgres")
    assert len(secret) >= 86
    assert secret == distributed.password(paths, "postgres")
    assert secret not in distributed.address(found, "airflow")
    assert secret in distributed.passfile(paths).read_text()
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (paths.var / "secrets").iterdir()}
    assert modes == {0o600}


def test_a_claim_from_elsewhere_counts_for_a_while(tmp_path: Path) -> None:
    """A claim of another container holds until its lease ends; whoever ends the run frees it."""
    paths = Paths(tmp_path)
    claim.claim(paths, "one")
    file = paths.var / "night.claim"
    write_json(file, {**read_json(file), "host": "elsewhere", "pid": 1})
    assert claim.claimed_by(paths) == "one"
    with pytest.raises(HomeError, match="the run one is under way"):
        claim.claim(paths, "two")
    write_json(file, {**read_json(file), "at": time.time() - claim.LEASE_S - 1})
    assert claim.claimed_by(paths) is None
    claim.release(paths, "one")
    assert not file.exists()
