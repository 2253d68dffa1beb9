"""Programs are started on their own, found again, and stopped with all they started."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from atlas.errors import HomeError
from pipelines import claim
from pipelines.files import write_json
from pipelines.home import night_lock
from pipelines.paths import PROJECT, Paths
from services import control
from services.processes import (
    Program,
    alive,
    free_port,
    is_free,
    log_path,
    record,
    start,
    stop,
    tail,
)

FAMILY = """
import signal, subprocess, sys, time
if len(sys.argv) > 1:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a child that will not listen
else:
    subprocess.Popen([sys.executable, __file__, "child"])
    print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def family(tmp_path: Path) -> Program:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    return Program("family", (sys.executable, str(script)), {"ATLAS_PARAMS": "p"})


def test_stop_ends_stubborn_children(
    paths: Paths, family: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping ends the leader, and a child that ignores SIGTERM, and forgets both."""
    monkeypatch.setattr("services.processes.GRACE_S", 1.0)
    pid = start(paths, family, bound=False)
    children = _children(pid)
    assert os.getsid(pid) == pid
    assert alive(paths, "family")
    assert stop(paths, ["family", "never_started"]) == ["family"]
    assert not any(map(_runs, children))
    assert record(paths, "family") is None


def test_stop_ends_children_of_a_dead_leader(
    paths: Paths, family: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader killed by someone else does not leave its children behind."""
    monkeypatch.setattr("services.processes.GRACE_S", 1.0)
    pid = start(paths, family, bound=False)
    children = _children(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert alive(paths, "family") is None
    stop(paths, ["family"])
    assert not any(map(_runs, children))


def test_what_ended_by_itself_is_written_down(paths: Paths, family: Program) -> None:
    """A start tells of a program that was killed, by name and pid; of one that runs, nothing."""
    told = log_path(paths, "services")
    pid = start(paths, replace(family, name="redis"), bound=False)
    control.tell_of_ended(paths)
    assert not told.exists()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    control.tell_of_ended(paths)
    assert f"redis (pid {pid}) had ended" in told.read_text()
    stop(paths, ["redis"])


def test_a_reused_pid_is_left_alone(paths: Paths) -> None:
    """A record whose pid is another program's now does not make stop touch that program."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    created = psutil.Process(other.pid).create_time() - 100
    entry = {"pid": other.pid, "created": created, "port": None, "bound": False, "params": ""}
    write_json(paths.var / "run" / "family.json", entry)
    assert alive(paths, "family") is None
    stop(paths, ["family"])
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_bound_program_dies_with_its_parent(paths: Paths, family: Program) -> None:
    """A program started for one night ends when the night's own process is killed."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pipelines.paths import Paths\n"
        "from services.processes import Program, start\n"
        f"program = Program('family', {family.command!r}, {{}})\n"
        f"print(start(Paths(Path({str(paths.home)!r})), program, bound=True), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    leader = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    psutil.wait_procs([leader], timeout=10)
    assert alive(paths, "family") is None
    stop(paths, ["family"])


def test_settings_of_the_shell_do_not_leak(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's and MLflow's variables of a shell do not reach a program; its own do."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "Wrong")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "wrong")
    code = "import os; print(sorted(k for k in os.environ if k[:7] in ('AIRFLOW', 'MLFLOW_')))"
    program = Program("shell", (sys.executable, "-c", code), {"AIRFLOW_HOME": "x"})
    start(paths, program, bound=False)
    _await_end(paths, "shell")
    assert tail(paths.var / "logs" / "shell.log") == "['AIRFLOW_HOME']"


def test_ports(paths: Paths) -> None:
    """A port that someone listens on is not free, and another one is offered."""
    assert paths
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert not is_free(taken)
        assert free_port(taken) != taken
    assert free_port(taken) == taken


def test_a_claim_keeps_other_nights_out(paths: Paths) -> None:
    """A claimed home takes tasks of the same run and nobody else, until it is given back."""
    claim.claim(paths, "run-1")
    claim.claim(paths, "run-1")
    with pytest.raises(HomeError, match="run-1 is under way"):
        claim.claim(paths, "run-2")
    with pytest.raises(HomeError, match="run-1 is under way"):
        claim.refuse(paths)
    claim.release(paths, "run-2")
    assert claim.claimed_by(paths) == "run-1"
    claim.release(paths, "run-1")
    claim.refuse(paths)


def test_a_dead_schedulers_claim_does_not_count(paths: Paths) -> None:
    """A claim whose scheduler is gone blocks nobody."""
    claim.claim(paths, "run-1")
    write_json(paths.var / "night.claim", {"holder": "run-1", "pid": 2**22, "created": 0.0})
    claim.claim(paths, "run-2")
    assert claim.claimed_by(paths) == "run-2"


def test_a_claim_needs_no_session_leader(paths: Paths) -> None:
    """A task whose session has lost its leader claims for the highest ancestor that is left."""
    code = f"""
import os, pathlib, sys, time
os.setsid()
if os.fork():
    os._exit(0)
while os.getppid() == os.getsid(0):
    time.sleep(0.01)
from pipelines import claim
from pipelines.paths import Paths
home = Paths(pathlib.Path({str(paths.home)!r}))
claim.claim(home, "run-1")
print(claim.claimed_by(home), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.stdout.strip() == "run-1", done.stderr


def test_a_night_by_hand_keeps_tasks_out(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a night in one process holds the home, a scheduler's task cannot claim it."""
    monkeypatch.setattr("pipelines.claim.PROBE_S", 0.1)
    with night_lock(paths), pytest.raises(HomeError, match="started by hand"):
        claim.claim(paths, "run-1")


def _await_end(paths: Paths, name: str) -> None:
    """Wait until a started program has ended."""
    deadline = time.monotonic() + 30
    while alive(paths, name):
        assert time.monotonic() < deadline, f"{name} still runs"
        time.sleep(0.01)


def _children(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 10
    while not (found := psutil.Process(pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # until it ignores the signal
    return found


def _runs(process: psutil.Process) -> bool:
    # Whoever adopts an orphan may not have taken its exit status yet.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
