"""livseg as others install it: what it asks for, what it says where one is missing, a wheel by itself."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from livseg_lib import errors
from livseg_lib.cli import main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def documented() -> dict[str, list[str]]:
    """Requirements by extra, "" for those without, as requirements.txt has them under its titles."""
    found, extra = defaultdict(list), ""
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            extra = re.sub(r".*\[(\w+)\]$|.*", r"\1", line)
        elif line:
            found[extra].append(line.split("#")[0].strip())
    return found


def test_the_package_asks_for_what_requirements_txt_documents():
    assert {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]} == documented()


def test_the_lock_has_a_version_of_every_requirement_and_no_second_opencv():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {line.split("==")[0] for line in lines if not line.startswith("#") and line}
    asked = {re.match(r"[\w-]+", each)[0] for group in documented().values() for each in group}
    assert asked | {"imgaug"} <= locked and "opencv-python" not in locked


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("app", "app"),
        ("dicom", "predict {dicom} --out {out}"),
        ("onnx", "export liver-ct --out {out}"),
        ("cluster", "check {dicom} --out {out} --scheduler tcp://127.0.0.1:1"),
        ("cloud", "check s3://bucket/scans --out {out}"),
        ("notebooks", "train"),
    ],
)
def test_a_missing_extra_is_named(extra, command, tmp_path, monkeypatch, capsys):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert main(command.format(dicom=tmp_path / "dicom", out=tmp_path / "out").split()) != 0
    assert f'pip install "livseg[{extra}]"' in capsys.readouterr().err


def test_workflows_and_containers_name_the_pythons_and_extras_that_there_are():
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["linux"]["strategy"]["matrix"]["python"]
    assert matrix == [f"3.{minor}" for minor in range(int(low), int(high))]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"FROM python:([\d.]+)", dockerfile)[1] in matrix
    assert set(re.search(r'"\.\[(.*)\]"', dockerfile)[1].split(",")) <= set(PROJECT["optional-dependencies"])
    (app,) = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    assert all(port.startswith("127.0.0.1:") for port in app["ports"])


def test_what_is_pushed_to_kaggle_runs_where_only_the_working_folder_can_be_written(tmp_path, capfd):
    folder = ROOT / "docs" / "kaggle"
    kernel, dataset = (json.loads((folder / f"{n}-metadata.json").read_text()) for n in ("kernel", "dataset"))
    assert kernel["dataset_sources"] == [dataset["id"]] and len(dataset["licenses"]) == 1
    assert kernel["id"].split("/")[1] == kernel["title"].lower().replace(" ", "-")  # as Kaggle wants it
    source = tmp_path / "input" / "datasets" / "livseg"
    shutil.copytree(ROOT / "livseg_lib", source / "livseg_lib")
    shutil.copytree(ROOT / "notebooks", source / "notebooks")
    program = (folder / kernel["code_file"]).read_text().replace("/kaggle", str(tmp_path))
    run = subprocess.run([sys.executable, "-", "--help"], input=program, text=True, capture_output=True)
    assert run.returncode == 0 and "notebooks that are out of date" in run.stdout
    assert (tmp_path / "working" / "livseg" / "notebooks" / "03_train_unet.ipynb").exists()


def draw_body(path: Path) -> None:
    """A picture of a body with a brighter organ where the liver is."""
    rows, columns = np.mgrid[-128:128, -128:128] / 128
    body, liver = rows**2 + columns**2 < 0.8, (rows + 0.1) ** 2 + (columns + 0.4) ** 2 < 0.1
    grey = 110 * body + 50 * liver
    Image.fromarray(grey.astype(np.uint8)).save(path)


def liver_pixels(results: Path) -> int:
    (mask,) = results.rglob("mask.png")
    return int((np.asarray(Image.open(mask)) == 127).sum())


@pytest.mark.slow
@pytest.mark.skipif("LIVSEG_FRESH" not in os.environ, reason="downloads TensorFlow anew: set LIVSEG_FRESH=1")
def test_a_wheel_predicts_in_a_fresh_environment_outside_the_repository(tmp_path):
    """With the model on board and no extra; takes the packages from the registry, or pip's cache."""
    shutil.copytree(ROOT / "livseg_lib", tmp_path / "source" / "livseg_lib")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "-w", tmp_path, tmp_path / "source"]  # a build leaves files there
    wheel = subprocess.run(build, capture_output=True, text=True)
    if wheel.returncode:
        pytest.skip(f"no registry to take setuptools from: {wheel.stderr[-300:]}")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    scripts = next(path for name in ("bin", "Scripts") if (path := tmp_path / "env" / name).is_dir())
    (built,) = tmp_path.glob("livseg-*.whl")
    install = [*pip, f"--python={scripts / 'python'}", "install", "-c", ROOT / "requirements.lock", built]
    subprocess.run(install, check=True)
    draw_body(tmp_path / "slice.png")
    command = [scripts / "livseg", "predict", "slice.png", "--out", "results"]
    clean = {"PATH": str(scripts), "HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    outside = {"cwd": tmp_path, "env": clean, "capture_output": True, "text": True}
    done = subprocess.run(command, **outside)
    assert done.returncode == 0, done.stderr
    assert liver_pixels(tmp_path / "results") > 100
    missing = subprocess.run([scripts / "livseg", "app"], **outside)
    assert missing.returncode == 2 and 'pip install "livseg[app]"' in missing.stderr


PLATFORMS = {
    "colab": "3.13 tensorflow==2.21.0 keras==3.13.2 numpy==2.1.3 pandas==2.2.3 scikit-learn==1.6.1 "
    "opencv-python-headless==5.0.0.*",
    "kaggle": "3.12 tensorflow==2.19.0 keras==3.13.2 numpy==2.0.2 pandas==3.0.4 scikit-learn==1.9.0 "
    "opencv-python-headless optuna==4.9.0",
}
"""Python and the versions that docs/colab.md and docs/kaggle.md name."""
ON_BOTH = """matplotlib scipy scikit-image pillow nibabel h5py plotly jinja2 sqlalchemy tqdm click requests
aiohttp filelock safetensors narwhals tenacity entrypoints psutil shapely imageio ipykernel ipywidgets
nbclient nbformat nbconvert tensorboard"""


@pytest.mark.slow
@pytest.mark.skipif("LIVSEG_FRESH" not in os.environ, reason="downloads TensorFlow anew: set LIVSEG_FRESH=1")
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_tour_runs_on_a_platform_as_it_is_without_internet(platform, tmp_path):
    """Nothing of the platform is replaced; what it lacks is named, and taken from a folder of wheels."""
    version, *listed = PLATFORMS[platform].split()
    found = shutil.which(f"python{version}")
    if not found or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    subprocess.run([found, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *listed, *ON_BOTH.split()], check=True)
    own = set(subprocess.run([*pip, "freeze"], capture_output=True, text=True).stdout.splitlines())
    for name in ("livseg_lib", "notebooks", "data"):
        source = tmp_path / "input" / "livseg" / name
        leave_out = shutil.ignore_patterns("__pycache__", "raw", "interim", "processed")
        shutil.copytree(ROOT / name, source, ignore=leave_out)
    program = (ROOT / "docs" / "kaggle" / "reproduce.py").read_text().replace("/kaggle", str(tmp_path))
    offline = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PIP_NO_INDEX": "1"}

    def reproduce(**more: str) -> subprocess.CompletedProcess:
        command = [python, "-", "--profile", "tour"]
        return subprocess.run(command, input=program, env=offline | more, capture_output=True, text=True)

    refused = reproduce()
    assert refused.returncode == 2, refused.stderr
    lacking = re.findall(r'"(\S+)"', refused.stderr.split("this Python lacks")[1].split(", and pip")[0])
    subprocess.run([*pip, "download", "--no-deps", "--dest", tmp_path / "wheels", *lacking], check=True)
    done = reproduce(PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "working" / "livseg" / "reports" / "phantom-tour" / "index.html").exists()
    now = subprocess.run([*pip, "freeze"], capture_output=True, text=True).stdout.splitlines()
    assert own <= set(now)
    again = reproduce()
    assert again.returncode == 0 and "all up to date" in again.stdout


PIP_SETTINGS = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}


class CleanDebian:
    """A Debian with nothing but Python in /usr/local, as the image the Dockerfile begins with, by chroot."""

    def __init__(self, root: Path) -> None:
        self.root, self.env, self.folder, self.start = (
            root,
            {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            "/",
            [],
        )
        packages = "--include=python3,python3-venv,ca-certificates"
        debootstrap = ["debootstrap", "--variant=minbase", packages, "trixie", root]
        if subprocess.run(debootstrap, stdout=subprocess.DEVNULL).returncode:
            pytest.skip("no Debian to take packages from")
        for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
            shutil.copy(Path("/") / name, root / name)
        (root / "dev" / "shm").mkdir(exist_ok=True)
        self.run("root", "python3 -m venv /usr/local")
        reached = self.command("root", "pip download --quiet --no-deps --dest /tmp wheel", **PIP_SETTINGS)
        if subprocess.run(reached).returncode:
            pytest.skip("no registry to be reached from a clean Debian")

    def command(self, user: str, text: str, **more: str) -> list:
        mounted = 'mount -t proc proc "$0/proc" && mount -t tmpfs shm "$0/dev/shm" && exec "$@"'
        own = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", mounted, self.root]
        env = [f"{name}={value}" for name, value in (self.env | more).items()]
        inside = f"cd {self.folder} && exec {text}" if self.start else f"cd {self.folder} && {text}"
        return [*own, "chroot", f"--userspec={user}", self.root, "env", "-i", *env, "sh", "-c", inside]

    def run(self, user: str, text: str, **more: str) -> subprocess.CompletedProcess:
        done = subprocess.run(self.command(user, text, **more), text=True, capture_output=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done

    def build(self, context: Path) -> None:
        """Follow the Dockerfile of `context`; an instruction that is not known here fails."""
        lines = re.sub(r"^#.*\n", "", (context / "Dockerfile").read_text(), flags=re.MULTILINE)
        shown = re.findall(r"^!(.*)$", (context / ".dockerignore").read_text(), flags=re.MULTILINE)
        user, arguments = "root", dict(PIP_SETTINGS)
        for line in lines.replace("\\\n", " ").splitlines():
            instruction, rest = line.split(maxsplit=1)
            if instruction == "FROM":
                version = self.run("root", "python --version").stdout.split()[1]
                assert re.search(r":(.*)-slim", rest)[1] == version.rpartition(".")[0]
            elif instruction == "ARG":
                arguments |= [rest.split("=", 1)]
            elif instruction == "ENV":
                self.env |= [rest.split("=", 1)]
            elif instruction == "WORKDIR":
                self.folder = rest
                (self.root / rest.strip("/")).mkdir(exist_ok=True)
            elif instruction == "COPY":
                *sources, target = rest.split()
                assert set(sources) <= set(shown), "hidden by .dockerignore"
                for name in sources:
                    place = self.root / self.folder.strip("/") / target
                    if (context / name).is_dir():
                        shutil.copytree(context / name, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(context / name, place)
            elif instruction == "RUN":
                self.run(user, rest, **arguments)
            elif instruction == "USER":
                self.user = user = rest
            elif instruction in ("ENTRYPOINT", "CMD"):
                self.start.append(" ".join(json.loads(rest)))
            else:
                assert instruction == "EXPOSE", instruction


@pytest.mark.slow
@pytest.mark.skipif("LIVSEG_FRESH" not in os.environ, reason="downloads TensorFlow anew: set LIVSEG_FRESH=1")
def test_the_steps_of_the_dockerfile_in_a_clean_debian(tmp_path, request):
    """Where no container engine runs. `predict` as any user, the page as the image's own."""
    if not shutil.which("debootstrap") or os.geteuid():
        pytest.skip("a clean Debian needs root and debootstrap")
    debian = CleanDebian(tmp_path / "debian")
    request.addfinalizer(partial(shutil.rmtree, debian.root, ignore_errors=True))  # gigabytes
    debian.build(ROOT)
    scans = debian.root / "scans"
    scans.mkdir()
    draw_body(scans / "slice.png")
    for path in (scans, scans / "slice.png"):
        os.chown(path, 12345, 12345)
    entry, default = debian.start
    debian.run("12345:12345", f"{entry} predict /scans/slice.png --out /scans/results", HOME="/tmp")
    assert liver_pixels(scans / "results") > 100
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (app,) = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    _, python, option, program = app["healthcheck"]["test"]
    look = f"{python} {option} {shlex.quote(program.replace('7860', port))}"
    page = debian.command(debian.user, f"{entry} {default}", GRADIO_SERVER_PORT=port, HOME="/home/livseg")
    with subprocess.Popen(
        page, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        try:
            for _ in range(60):
                time.sleep(1)
                answer = subprocess.run(debian.command(debian.user, look), capture_output=True)
                if answer.returncode == 0 or running.poll() is not None:
                    break
        finally:
            os.killpg(running.pid, signal.SIGKILL)  # unshare passes nothing on
        assert answer.returncode == 0, running.stderr.read()
