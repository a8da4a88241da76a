"""Ray for real on this machine, submitit with its local executor and with a Slurm whose commands are stand-ins."""

import contextlib
import os
import stat
import sys
from pathlib import Path

import pytest
from cells import wait_for
from fleet_jobs import counted, ran

from harness.errors import CouldNotCheck
from harness.fleet.driver import drive
from harness.fleet.engines import RayEngine, SlurmEngine
from harness.fleet.queue import Queue

pytestmark = pytest.mark.filterwarnings("ignore")

# A Slurm of one machine: sbatch starts the script in the background and answers with its number; sacct reads how it
# stands. Job arrays, steps and nodes are as submitit asks for them.
# A line of "#!" cannot name a program in a folder with a blank in its name; the shell can.
START = f"""#!/bin/sh
'''exec' "{sys.executable}" "$0" "$@"
' '''"""
SBATCH = """{start}
import os, subprocess, sys
root = {root!r}
number = 1 + len(os.listdir(root))
script = open(sys.argv[-1]).read()
environ = dict(os.environ, SLURM_JOB_ID=str(number), SLURM_JOBID=str(number), SLURM_NTASKS="1", SLURM_PROCID="0",
               SLURM_LOCALID="0", SLURM_NODEID="0", SLURM_JOB_NUM_NODES="1", SLURM_JOB_NODELIST="node1")
state = os.path.join(root, str(number))
open(state, "w").write("PENDING")
if {lose} and number == 1:
    open(state, "w").write("NODE_FAIL")
else:
    now = f"echo %s > {{root}}.new; mv {{root}}.new {{state}}"  # sacct never finds an empty file
    subprocess.Popen(["bash", "-c", f"{{now % 'RUNNING'}}\\n{{script}}\\n{{now % 'COMPLETED'}}"], env=environ,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
print(f"Submitted batch job {{number}}")
"""
SACCT = """{start}
import os
root = {root!r}
print("JobID|State|NodeList")
for name in sorted(os.listdir(root)):
    print(f"{{name}}|{{open(os.path.join(root, name)).read().strip()}}|node1")
"""
SRUN = """{start}
import os, sys
words = sys.argv[1:]
while words and words[0].startswith("-"):
    if words.pop(0) in ("--output", "--error"):
        words.pop(0)
os.execvp(words[0], words)
"""


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue")


@pytest.mark.parametrize("lose", [False, True], ids=["all nodes well", "the first node is lost"])
def test_slurm_runs_a_job_again_when_its_node_is_lost(queue: Queue, tmp_path: Path, monkeypatch, lose: bool):
    pytest.importorskip("submitit", reason="submitit is in the extra `fleet`")
    root, commands = tmp_path / "slurm-state", tmp_path / "bin"
    root.mkdir()
    commands.mkdir()
    for name, text in (("sbatch", SBATCH), ("sacct", SACCT), ("srun", SRUN), ("scancel", "#!/bin/sh\n")):
        path = commands / name
        path.write_text(text.format(start=START, root=str(root), lose=lose))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    log, planted = tmp_path / "ran", queue.folder / "slurm" / "1_submitted.pkl"
    planted.parent.mkdir()
    planted.write_bytes(b"what a node would unpickle that is faster than the driver")
    engine = SlurmEngine(queue, {"partition": "gpu"})
    try:
        outcomes = drive(queue, [counted(queue, log, "a")], engine, attempts=3)
    finally:
        engine.close()
    assert ran(log) == ["a"]
    assert outcomes[0].result is not None
    assert len(list(root.iterdir())) == (2 if lose else 1)
    assert planted.read_bytes().startswith(b"what a node")  # a stranger's queue knows the number, not the folder


def test_without_slurm_one_message_says_so(queue: Queue, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is in the extra `fleet`")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CouldNotCheck, match="Slurm"):
        SlurmEngine(queue, {})


def test_a_ray_cluster_that_does_not_answer_could_not_be_asked(queue: Queue, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is in the extra `fleet`")

    def late(**_: object) -> None:
        raise ConnectionError("The current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(CouldNotCheck, match=r"did not start, .*: The current node timed out during startup\. Try"):
        RayEngine(queue, {})


def test_ray_runs_jobs_and_leaves_nothing_counted_twice(queue: Queue, tmp_path: Path):
    pytest.importorskip("ray", reason="ray is in the extra `fleet`")
    log = tmp_path / "ran"

    def started() -> RayEngine | None:
        with contextlib.suppress(CouldNotCheck):  # Ray gives a node 30 s to start, which are few on a busy machine
            return RayEngine(queue, {})
        return None

    engine = wait_for(started)
    try:
        outcomes = drive(queue, [counted(queue, log, f"job{i}") for i in range(3)], engine, attempts=2)
    finally:
        engine.close()
    assert sorted(ran(log)) == ["job0", "job1", "job2"]
    assert all(outcome.result for outcome in outcomes)
