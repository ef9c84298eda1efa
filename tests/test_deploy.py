"""The examples in deploy/ are what SLURM, Kubernetes and this project take."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

import predict
import train

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.mark.slow
def test_kubernetes_takes_the_job() -> None:
    command = [
        Path(sys.executable).with_name("kubernetes-validate"),
        "--strict",
        *DEPLOY.glob("kubernetes/*.yaml"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "job/galaxy-zoo" in result.stdout + result.stderr


EXAMPLES = [
    ("slurm/train.sbatch", train.main),
    ("slurm/predict.sbatch", predict.main),
    ("kubernetes/train.yaml", train.main),
]


def test_every_option_that_an_example_gives_is_one(subtests: pytest.Subtests) -> None:
    for path, command in EXAMPLES:
        with subtests.test(path=path):
            text = (DEPLOY / path).read_text()
            after = re.split(r"train\.py|predict\.py|args:", text)[-1]
            known = {name for parameter in command.params for name in parameter.opts}
            given = set(re.findall(r"--[a-z-]+", after))
            assert "--out" in given
            assert given <= known


def test_torchrun_starts_the_installed_command_in_the_pods() -> None:
    """Without Python, which would take a module of the mounted folder before an installed one."""
    _, job = yaml.safe_load_all((DEPLOY / "kubernetes/train.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    program, *options = container["command"]
    taken = get_args_parser().parse_args([*options, *container["args"]])
    assert (program, taken.no_python, taken.training_script) == ("torchrun", True, "galaxy_zoo")
    command, *arguments = taken.training_script_args
    assert command == "train"
    train.main.make_context(command, arguments)


@pytest.mark.slow
def test_a_job_of_slurm_trains_and_goes_on(shards: Path, tmp_path: Path) -> None:
    """With stand-ins for what SLURM brings: one machine, two processes on its CPU."""
    for name, body in (("srun", 'shift; exec "$@"'), ("scontrol", "echo localhost")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    root, bin_folder = DEPLOY.parent, Path(sys.executable).parent
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{bin_folder}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_GPUS_ON_NODE": "2",
        "OMP_NUM_THREADS": "1",
    }
    out = tmp_path / "run"
    job = [
        "bash",
        DEPLOY / "slurm/train.sbatch",
        shards,
        out,
        "--fold",
        "none",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    for _ in range(2):  # the second one finds a finished run and goes on with it
        subprocess.run(job, cwd=root, env=environment, check=True, timeout=300)
    assert (out / "member-00" / "best.safetensors").exists()
