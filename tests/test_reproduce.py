"""The whole story on a tiny phantom, as `make reproduce` tells it, and what must stop it."""

import json
import shutil
from pathlib import Path

import nibabel
import pandas as pd
import pytest
from links import broken_links, external_resources

from livseg_lib.cli import main
from livseg_lib.files import folder_checksums, holds_files
from livseg_lib.outputs import SYSTEMS_COLUMNS
from livseg_lib.systems import CASCADES

REPOSITORY = Path(__file__).parents[1]
TOUR = ("--profile", "tour", "--run-name", "tiny", "--set", "scan=data/raw/tiny/volume-1.nii.gz")
STORY = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("[!4]*.ipynb"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A repository of its own: notebooks from here, data and reports in a temporary folder."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks")
    (root / "livseg_lib").symlink_to(REPOSITORY / "livseg_lib")
    return root


@pytest.fixture(scope="module")
def report(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVSEG_ROOT", str(root))
        assert main(["train", "--system", "unet", *TOUR]) == 0
        assert main(["reproduce", *TOUR]) == 0
    return root / "reports" / "tiny"


@pytest.mark.slow
def test_the_report_is_whole_and_opens_offline(report):
    page = report / "index.html"
    assert broken_links(page) == [] and external_resources(page) == []
    for suffix in ("ipynb", "html"):
        assert sorted(path.stem for path in report.glob(f"[0-9]*.{suffix}")) == STORY
    assert not list(report.rglob("*.partial*"))
    for html in report.glob("*.html"):
        assert external_resources(html) == []
    text = page.read_text()
    assert "clinical" in text and "Phantom" in text and "This is a tour" in text
    assert "0.85" in text  # system C's published Dice
    assert page.stat().st_size < 10_000_000


@pytest.mark.slow
def test_the_tables_hold_every_system_and_patient(report):
    systems = pd.read_csv(report / "tables" / "systems.csv")
    assert tuple(systems.columns) == SYSTEMS_COLUMNS
    honest = systems[(systems.split_by == "patient") & (systems.target != "slices")]
    networks = ("unet", "resnet50_unet", "attention_unet", "unet++", "unet_mse")
    networks += ("threshold", "threshold_relative", *CASCADES, "majority_vote")
    everything = {(name, target) for name in networks for target in ("liver", "tumor")}
    assert set(zip(honest.system, honest.target, strict=True)) == everything - {("unet_mse", "liver")}
    others = systems.drop(honest.index)
    assert set(others.system) == {"slice_sorter", "unet_audit"} and others.dice_per_case.isna().any()
    trained = systems[~systems.system.str.startswith("threshold")]
    assert (trained.train_seconds > 0).all() and (trained.parameters > 0).all()
    patients = pd.read_csv(report / "tables" / "patients.csv")
    splits = pd.read_csv(report.parents[1] / "data" / "processed" / "tiny" / "splits.csv")
    assert set(patients.patient) == set(splits.patient[splits.split == "test"])
    found = pd.read_csv(report / "tables" / "findings.csv")
    assert len(found) == 6 and (found.severity != "error").all()


@pytest.mark.slow
def test_masks_of_every_system_lie_on_the_scans_grid(report):
    raw = report.parents[1] / "data" / "raw" / "tiny"
    pairs = [(mask, raw / mask.name) for mask in (report / "predictions" / "unet").glob("*.nii.gz")]
    assert pairs and set(CASCADES) <= set(pd.read_csv(report / "tables" / "applied.csv").outlined_by)
    for name in CASCADES:
        [mask] = (report / "applied" / name).glob("*.nii.gz")
        pairs.append((mask, raw / "volume-1.nii.gz"))
    for mask, scan in pairs:
        found, given = nibabel.load(mask), nibabel.load(scan)
        assert found.shape == given.shape and (found.affine == given.affine).all()


@pytest.mark.slow
def test_the_manifest_tells_what_was_run(report):
    manifest = json.loads((report / "manifest.json").read_text())
    assert sorted(manifest["notebooks"]) == STORY
    assert manifest["seed"] == 2026 and len(manifest["data_checksum"]) == 64
    assert manifest["notebooks"]["03_train_unet"]["parameters"]["unet_epochs"] == 2
    assert any("ImageNet" in note for note in manifest["notebooks"]["04_train_resnet50"]["notes"])
    assert manifest["device"].startswith(("CPU", "GPU"))


@pytest.mark.slow
def test_one_patient_cannot_be_split_and_is_told_so(report, root, monkeypatch, capfd):
    monkeypatch.setenv("LIVSEG_ROOT", str(root))
    alone = root / "alone"
    alone.mkdir()
    for kind in ("volume", "segmentation"):
        shutil.copy(root / "data" / "raw" / "tiny" / f"{kind}-1.nii.gz", alone)
    status = main(["train", "--dataset", "lits", "--data", str(alone), "--run-name", "alone"])
    assert status == 2
    assert "One patient cannot be split" in capfd.readouterr().err
    assert not (root / "reports" / "alone" / "02_classify_masks.ipynb").exists()


@pytest.mark.slow
def test_the_best_system_is_put_together_from_the_runs_parts(report, root, monkeypatch):
    monkeypatch.setenv("LIVSEG_ROOT", str(root))
    assert main(["reproduce", "--only", "42_best_system", *TOUR]) == 0
    systems = pd.read_csv(report / "tables" / "systems.csv").set_index("system")
    assert set(systems.loc[["best"]].target) == {"liver", "tumor"}
    parts = report / "models" / "best"
    for part in ("unet_lesions", "candidate_forest"):
        known = folder_checksums(report / "models" / part)
        assert known and holds_files(parts / part, known)


@pytest.mark.slow
def test_runs_of_two_seeds_are_laid_side_by_side(report, root, monkeypatch, capfd):
    monkeypatch.setenv("LIVSEG_ROOT", str(root))
    for kind in ("reports", "data/processed"):
        shutil.copytree(root / kind / "tiny", root / kind / "other")
    patients = pd.read_csv(report / "tables" / "patients.csv")
    apart = patients.assign(dice=patients.dice / 2)
    apart.to_csv(root / "reports" / "other" / "tables" / "patients.csv", index=False)
    slices = pd.read_csv(report / "tables" / "every_patient_slices.csv").assign(common_pixels=0)
    slices.to_csv(root / "reports" / "other" / "tables" / "every_patient_slices.csv", index=False)
    asked = ["reproduce", "--only", "43_other_seeds", *TOUR, "--set", "other_runs=[other]"]
    assert main(asked) == 2
    assert "a seed of its own" in capfd.readouterr().err
    manifest = root / "reports" / "other" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"seed": 1}))
    assert main(asked) == 0
    table = pd.read_csv(report / "tables" / "seeds.csv").query("structure == 'liver'").set_index("system")
    means = patients[patients.structure == "liver"].groupby("system").dice.mean()
    assert (table.n_seeds == 2).all() and set(table.index) == set(means.index)
    for name, mean in means.items():
        row = table.loc[name, ["dice", "dice_of_best_seed", "dice_of_worst_seed"]]
        assert row.tolist() == pytest.approx([0.75 * mean, mean, mean / 2])
    mean = pd.read_csv(report / "tables" / "every_patient.csv").set_index(["system", "structure"]).dice
    table = pd.read_csv(report / "tables" / "seeds_every_patient.csv").set_index(["system", "structure"])
    assert (table.n_seeds == 2).all() and (table.dice_of_worst_seed == 0).all() and len(table) == len(mean)
    assert table.dice.to_dict() == pytest.approx((mean / 2).to_dict())
