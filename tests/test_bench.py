"""`make bench`: its judgements by hand, and its smallest form as a slow test, so that it does not rot."""

import sys
from types import SimpleNamespace

import bench
import bench_board
import bench_page
import cv2
import numpy as np
import pandas as pd
import pytest

from livseg_lib.outputs import read_table


def runs(seconds: list[float], answer: list[float], error: str = "") -> SimpleNamespace:
    """A contender that took so long in each round."""
    cost = {"cpu_seconds": 1.0, "peak_memory_mb": 10.0, "answer": answer}
    return SimpleNamespace(runs=[cost | {"seconds": each} for each in seconds], error=error)


def test_ratios_are_of_the_same_round_and_other_numbers_are_told():
    ours, peer = runs([1.0, 2.0, 4.0], [5.0]), runs([3.0, 2.0, 8.0], [6.0])
    found = bench.summary(peer, ours, agree=True)
    assert (found["seconds"], found["ratio"], found["ratio_low"], found["ratio_high"]) == (3.0, 2.0, 1.0, 3.0)
    assert found["cpu_ratio"] == 1.0
    assert found["remark"] == "gives other numbers: [6.0]"


def test_a_peer_that_fails_is_told_with_its_error():
    found = bench.summary(runs([], [], "failed: no module"), runs([1.0], [5.0]), agree=True)
    row = pd.Series({"work": "reading", "title": "reading", "contender": "peer", "role": "peer"} | found)
    assert "| – | – | – | – | – | failed: no module |" in bench_page.works_table(pd.DataFrame([row]))
    assert "| – | peer: failed: no module |" in bench_page.brief_table(pd.DataFrame([row]))


def test_a_peer_that_is_sooner_is_told():
    faster = bench.summary(runs([1.0], [5.0]), runs([2.0], [5.0]), agree=True)
    row = {"work": "reading", "title": "reading", "contender": "peer", "role": "peer"} | faster
    table = pd.DataFrame([row])
    assert "**livseg is behind.**" in bench_page.works_table(table)
    assert "| reading | – | peer 1 s (x 0.5**, livseg is behind**) |" in bench_page.brief_table(table)


def test_a_contender_that_takes_too_long_is_ended_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "MOST_SECONDS", 0.5)
    script = tmp_path / "slow.py"
    script.write_text("import time; time.sleep(60)")
    slow = bench.Contender(script, sys.executable, [], {})
    slow.run()
    slow.end()
    assert (slow.runs, slow.error) == ([], "not done after 0.5 s")


def test_dice_of_a_patient_pools_the_slices_at_their_own_size():
    truth = [np.zeros((8, 8), bool) for _ in range(3)]
    truth[0][:4] = truth[1][:, :2] = True
    tested = pd.DataFrame({"patient": ["a", "a", "b"], "truth": truth})
    probabilities = np.zeros((3, 4, 4), np.float32)
    probabilities[0, :2] = 1.0  # enlarged: the upper half of the first slice, nothing of the second
    found = bench_board.patient_dice(tested, probabilities).set_index("patient").dice
    assert found["a"] == pytest.approx(2 * 32 / (32 + 32 + 16))


def test_the_board_compares_with_the_better_rate_of_each_peer():
    scores = {("livseg U-Net", 0.003): 0.9, ("peer", 0.003): 0.5, ("peer", 0.001): 0.8}
    rows = [(*key, str(k), dice + 0.001 * k) for key, dice in scores.items() for k in range(12)]
    trainings = pd.DataFrame(rows, columns=["contender", "learning_rate", "patient", "dice"])
    facts = dict.fromkeys(bench_board.FACTS, 1.0) | {"remark": "", "minutes": 2.0}
    board = bench_board.summarize_board(trainings.assign(**facts))
    ahead = board.set_index(["contender", "learning_rate"])
    assert ahead.loc[("peer", 0.001), "difference"] == pytest.approx(0.1)
    assert ahead.loc[("peer", 0.001), "livseg_ahead"] == 1
    assert np.isnan(ahead.loc[("peer", 0.003), "difference"])
    assert "(**+0.100**)" in bench_page.brief_board(board.query("better_rate"))
    assert "(+0.100)" in bench_page.brief_board(board.query("better_rate").replace({"livseg_ahead": {1: 0}}))


def test_patients_whose_names_are_numbers_are_paired_across_files(tmp_path):
    for name, dice in (("livseg U-Net", 0.9), ("peer", 0.8)):
        rows = pd.DataFrame({"patient": ["7", "12"], "dice": [dice, dice + 0.02]})
        facts = {"minutes": 1.0, "contender": name, "learning_rate": 0.003, "made_by": "here"}
        facts |= dict.fromkeys(bench_board.FACTS, 1.0)
        bench_board.keep(rows.assign(**facts), tmp_path / "board_patients.csv")
    board = read_table(tmp_path / "board.csv").set_index("contender")
    assert board.loc["peer", "difference"] == pytest.approx(0.1)


def test_the_recipe_is_set_beside_itself_without_each_of_its_parts():
    recipe, *others = bench_board.without_parts().items()
    assert recipe == (bench_board.OURS, {}) and len(others) > 2
    assert all(len(changed) == 1 and str(*changed.values()) in name for name, changed in others)


@pytest.mark.slow
def test_the_smallest_form_runs_to_its_page(tmp_path):
    slices, out = tmp_path / "slices", tmp_path / "bench"
    for kind in ("images", "masks"):
        (slices / f"train_{kind}").mkdir(parents=True)
    for patient in range(5):
        grey = np.zeros((128, 128), np.uint8)
        cv2.circle(grey, (40 + 10 * patient, 60), 25, 255, -1)
        name = f"volume-{patient}_slice_0"
        cv2.imwrite(str(slices / "train_images" / f"{name}.png"), grey // 2)
        cv2.imwrite(str(slices / "train_masks" / f"{name}_mask.png"), grey)
    settings = ["--short", "--rounds", "1", "--out", str(out), "--data", str(slices), "--minutes", "0.01"]
    bench.main([*settings, *([] if bench.PEERS.exists() else ["--no-peers"])])
    table = read_table(out / "table.csv")
    assert set(table.work) == set(bench.WORKS)
    assert not table.remark.fillna("").str.contains("failed").any(), table.remark
    assert read_table(out / "board.csv").dice.notna().all()
