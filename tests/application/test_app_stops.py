"""However the app ends, nothing of its visitors stays in the temporary folder, and no process."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from application.toy_system import toy_voxels, write_toy_nifti
from test_shelf import make_run

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")

PROGRAM = """
import sys
from application.toy_loading import load_toy
from livseg_lib.application import answering
from livseg_lib.cli import main

if __name__ == "__main__":
    workers = answering.Workers
    answering.Workers = lambda root, count: workers(root, count, load_toy)
    main(["app", "--reports", sys.argv[1], "--port", sys.argv[2]])
"""
WAIT_SECONDS = 240


def wait_for(condition, what: str):
    end = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} within {WAIT_SECONDS} s"
        time.sleep(0.1)
    return found


def connected(address: str, app: subprocess.Popen):
    def connect():
        assert app.poll() is None, "the app ended by itself"
        try:
            return gradio_client.Client(address, verbose=False, download_files=False)
        except Exception:  # not there yet
            return None

    return wait_for(connect, "the app answers")


def slow(number: int):
    """Each takes a start of the app; `make test` sees the hardest one."""
    return pytest.param(number, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "number", [*map(slow, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)), signal.SIGKILL]
)
def test_nothing_is_left_by_any_signal(number, tmp_path):
    """With a finished result, an upload, and work under way."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    rows = [("toy", "liver", "patient", 0.9), ("slow", "liver", "patient", 0.1)]
    make_run(tmp_path / "reports", "run", 0, rows, ["toy", "slow"])
    (tmp_path / "app.py").write_text(PROGRAM)
    here = Path(__file__).parents[1]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": f"{here}:{here.parent}"}
    with socket.socket() as opened:  # a port that is free
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    command = [sys.executable, "app.py", "reports", str(port)]
    if number != signal.SIGKILL and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)  # a background job or nohup ignores it, and so would the app
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as app:
        try:
            client = connected(f"http://127.0.0.1:{port}", app)
            scan = gradio_client.handle_file(write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels()))
            client.predict([scan], "run/toy", "", api_name="/predict")
            client.submit([scan], "run/slow", "", api_name="/predict")
            (root,) = temporary.glob("livseg-app-*")
            wait_for(lambda: list(root.rglob("scan.nii.gz")), "an upload lies there")
            started = psutil.Process(app.pid).children(recursive=True)
            app.send_signal(number)
            app.wait(WAIT_SECONDS)
            _, alive = psutil.wait_procs(started, WAIT_SECONDS)
        finally:
            app.kill()
    assert not alive
    assert list(temporary.iterdir()) == []
    assert app.returncode == (-number if number == signal.SIGKILL else 128 + number)
