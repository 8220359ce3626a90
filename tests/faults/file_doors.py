"""Tables, settings and descriptions: slices.csv, splits.csv, scores, YAML, JSON beside scans and results."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import yaml
from application.toy_system import toy_labels, toy_predictor, toy_voxels, write_toy_nifti
from faulty_inputs import (
    HOSTILE,
    Fault,
    change_tree,
    damage,
    must_be_read,
    read_too_by,
    require,
    require_helpful,
    run_command,
)
from layouts import small_ct, write_lits_case, write_nifti

from livseg_lib.application.inputs import find_inputs
from livseg_lib.application.results import predict_batch
from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.notebooks import choose_parameters, declared_parameters
from livseg_lib.preprocessing.extraction import SLICE_COLUMNS, extract_dataset, read_slices
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import project_root
from livseg_lib.sampling.splits import load_or_create_splits, split_patients

PATIENTS = pd.DataFrame(
    {"patient": [f"{n:03d}" for n in range(8)], "has_tumor": [n % 2 == 0 for n in range(8)]}
)
CELLS = ("", "nan", "-1", "0", "1", "0.5", "1e9", "abc", '"', "007", " 1", "inf", "9" * 20, "test", "Ä")
CELLS += ("1,2",)


# Tables


def damaged_table(rng: np.random.Generator, table: pd.DataFrame) -> tuple[bytes, bool]:
    """CSV with a cell, a row, a column, separators or bytes changed; whether that should not matter."""
    kinds = ("bytes", "bytes", "cell", "cell", "cell", "column", "rows", "row length", "separator", "ends")
    how = rng.choice(kinds)
    table = table.copy().astype(object)
    row, column = int(rng.integers(len(table))), int(rng.integers(table.shape[1]))
    if how == "cell":
        table.iloc[row, column] = CELLS[rng.integers(len(CELLS))]
    elif how == "column":
        name = table.columns[column]
        renamed = table.rename(columns={name: table.columns[0]})
        table = table.drop(columns=name) if rng.random() < 0.5 else renamed
    elif how == "rows":
        table = pd.concat([table.iloc[:row], table.iloc[row + int(rng.integers(0, 2)) :], table.iloc[:1]])
    text = table.to_csv(index=False, sep=";" if how == "separator" else ",")
    if how == "row length":
        lines = text.splitlines()
        lines[row + 1] = lines[row + 1] + ",9" if rng.random() < 0.5 else lines[row + 1].rpartition(",")[0]
        text = "\n".join(lines) + "\n"
    content = text.encode()
    if how == "ends":
        content = b"\xef\xbb\xbf" + content if rng.random() < 0.5 else content.replace(b"\n", b"\r\n")
    return (damage(rng, content) if how == "bytes" else content), how == "ends"


def python_reads(path: Path) -> list[dict]:
    """Rows by column as Python's csv reads them; raises Fault where that is no table."""
    with read_too_by("csv"):
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    whole = all(None not in row and None not in row.values() for row in rows)
    require(whole, "read with rows of other lengths")
    return rows


def same_value(text: str, value: object) -> bool:
    """Whether a cell was read as it stands; an empty one is NA."""
    if pd.isna(value):
        return text.strip() == "" or text.strip().lower() == "nan"
    if isinstance(value, str):
        return value == text
    try:
        return float(text) == float(value)
    except ValueError:
        return False


@cache
def slices_table() -> pd.DataFrame:
    """Two cases of three slices, as extraction writes them."""
    names = [(f"00{n}", f"volume-{n}", k) for n in (1, 2) for k in range(3)]
    rows = [
        (patient, case, k, k, f"{case}/{k}.png", f"{case}/{k}_mask.png", case, 2.5, 0.8, 0.7, 30 * k, k, k, k)
        for patient, case, k in names
    ]
    return pd.DataFrame(rows, columns=list(SLICE_COLUMNS))


def slices_csv(rng: np.random.Generator, folder: Path) -> None:
    """What training reads of each slice."""
    content, harmless = damaged_table(rng, slices_table())
    (folder / "slices.csv").write_bytes(content)
    with must_be_read(harmless):
        read = read_slices(folder / "slices.csv")
    rows = python_reads(folder / "slices.csv")
    require(len(rows) == len(read), f"{len(read)} rows of {len(rows)}")
    for row, (_, found) in zip(rows, read.iterrows(), strict=True):
        for name in SLICE_COLUMNS:
            require(name in row, f"read without the column {name}")
            require(same_value(row[name], found[name]), f"{name} {row[name]!r} became {found[name]!r}")


def splits_csv(rng: np.random.Generator, folder: Path) -> None:
    """Who is trained on, and who is tested."""
    content, harmless = damaged_table(rng, split_patients(PATIENTS).drop(columns="has_tumor"))
    (folder / "splits.csv").write_bytes(content)
    with must_be_read(harmless):
        read = load_or_create_splits(folder / "splits.csv", PATIENTS)
    said = {row["patient"].strip(): row["split"].strip() for row in python_reads(folder / "splits.csv")}
    require(said == dict(zip(read.patient, read.split, strict=True)), "other splits than the file says")
    require(set(said) == set(PATIENTS.patient), "other patients")


def scores_json(rng: np.random.Generator, folder: Path) -> None:
    """Two files of scores compared by the command."""
    paths = [folder / "a.json", folder / "b.json"]
    for path in paths:
        dice = [float(np.round(rng.random(), 3)) for _ in range(6)]
        cases = [{"case": f"volume-{n}", "liver_dice": dice[n], "tumor_dice": None} for n in range(6)]
        path.write_text(json.dumps({"mode": "intended", "cases": cases}))
    damage_json(rng, paths[1])
    said = run_command(["compare", *map(str, paths)])
    first, second = ({c["case"]: c for c in json.loads(path.read_bytes())["cases"]} for path in paths)
    both = [case for case in first if case in second]
    pairs = [(first[case].get("liver_dice"), second[case].get("liver_dice")) for case in both]
    if pairs and all(isinstance(value, float) and np.isfinite(value) for pair in pairs for value in pair):
        mean = np.mean([a - b for a, b in pairs])
        require(any(f"{sign * mean:+.4f}" in said for sign in (1, -1)), f"{mean:+.4f} is not in: {said}")


# JSON and YAML


def damage_json(rng: np.random.Generator, path: Path) -> None:
    """Bytes or values of a JSON file."""
    content = path.read_bytes()
    if rng.random() < 0.4:
        path.write_bytes(damage(rng, content))
    else:
        tree = json.loads(content)
        change_tree(rng, tree)
        path.write_text(json.dumps(tree), encoding="utf-8")


def params_yaml(rng: np.random.Generator, folder: Path) -> None:
    """A profile of notebook parameters."""
    notebook = project_root() / "notebooks" / "03_train_unet.ipynb"
    values = {name: value for name, value in declared_parameters(notebook).items() if name != "run_name"}
    text = yaml.safe_dump(values)
    how = rng.choice(["bytes", "value", "bomb", "tag"], p=[0.5, 0.4, 0.05, 0.05])
    if how == "value":
        change_tree(rng, values)
        text = yaml.safe_dump(values)
    if how == "bomb":
        bombs = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)]
        text = "".join(["a0: &a0 [x, x]\n", *bombs])
        text += f"target: *a{int(rng.integers(3, 12))}\n"
    if how == "tag":
        text += f"target: !!python/object/apply:os.system ['touch {folder / 'owned'}']\n"
    content = damage(rng, text.encode()) if how == "bytes" else text.encode()
    (folder / "own.yaml").write_bytes(content)
    chosen = choose_parameters([notebook], folder / "own.yaml", {"run_name": "r"})["03_train_unet"]
    require(not (folder / "owned").exists(), "something was executed")
    with read_too_by("YAML"):
        said = yaml.safe_load(content) or {}
    require(repr(chosen) == repr(said | {"run_name": "r"}), f"{chosen} of {said}")


def settings(rng: np.random.Generator, folder: Path) -> None:
    """`--set NAME=VALUE` of a command, before any notebook runs."""
    value = damage(rng, b"[liver, 3.5]").decode("latin-1")
    if rng.random() < 0.5:
        value = str(HOSTILE[rng.integers(len(HOSTILE))])[:200]
    name = rng.choice(["", "learning_rate", "unet_epochs", "nonsense", " "])
    text = f"{name}{rng.choice(['=', '=', '==', ''])}{value}"
    (folder / "none.yaml").write_text("nobody_declares_this: 1\n")  # so that nothing is run whatever is given
    run_command(["train", "--profile", str(folder / "none.yaml"), f"--set={text}"])
    raise Fault("a notebook was run")


MEANINGS = (
    *("liver", "tumor", "tumour", "Liver", "cancer", "mass"),
    *("spleen", "background", "vessel", "liver tumor"),
)


def label_names(rng: np.random.Generator, folder: Path) -> None:
    """dataset.json of the Decathlon, or labels.json: no label may vanish without a word."""
    hu, labels = small_ct(0, (6, 16, 20))
    write_nifti(folder / "imagesTr" / "liver_0.nii.gz", hu)
    write_nifti(folder / "labelsTr" / "liver_0.nii.gz", labels)
    name, tree = "labels.json", {"liver": [1, 2], "tumor": 2}
    if rng.random() < 0.5:
        labels_said = {"0": "background", "1": "liver", "2": "cancer"}
        name, tree = "dataset.json", {"name": "Liver", "labels": labels_said}
    if name == "dataset.json" and rng.random() < 0.4:
        tree["labels"][str(rng.integers(3))] = str(rng.choice(MEANINGS))
    (folder / name).write_text(json.dumps(tree))
    if rng.random() < 0.7:
        damage_json(rng, folder / name)
    found = find_cases(folder, "msd")
    (case,) = found.cases
    read = case.read_labels(case.read_volume())
    findings = check_dataset(found, workers=1).findings
    require_helpful(findings)
    with read_too_by("json"):
        said = json.loads((folder / name).read_bytes().decode("utf-8-sig"))
    if name == "labels.json":
        values = {key: value if isinstance(value, list) else [value] for key, value in said.items()}
        expected = np.isin(labels, values["liver"]).astype(np.uint8)
        expected[np.isin(labels, values.get("tumor", []))] = 2
        require((read == expected).all(), f"other labels than {said}")
    elif (read != labels).any():
        told = (findings.severity != "ok").any()
        require(told, f"labels changed by {said['labels']}, and no finding says so")


# What livseg wrote itself


@cache
def own_results() -> tuple[Path, list, list]:
    """A folder with an extracted case and a prediction, and what both were made from."""
    home = Path(tempfile.mkdtemp(prefix="livseg-faults-"))
    write_lits_case(home / "data", 0)
    cases = find_cases(home / "data").cases
    extract_dataset(cases, Recipe(windows=("liver",), size=32), home / "slices", workers=1, write_png=False)
    (home / "scans").mkdir()
    write_toy_nifti(home / "scans" / "one.nii.gz", toy_voxels())
    patients = find_inputs(home / "scans")
    predict_batch(patients, toy_predictor(), home / "predicted")
    return home, cases, patients


def _spoil_one_file(rng: np.random.Generator, folder: Path) -> None:
    """A file below is lost or cut in half, or, if it is JSON or a table, damaged."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    if path.suffix in (".json", ".csv") and rng.random() < 0.7:
        damage_json(rng, path) if path.suffix == ".json" else path.write_bytes(damage(rng, path.read_bytes()))
    elif rng.random() < 0.5:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def extracted(rng: np.random.Generator, folder: Path) -> None:
    """An extracted case of which a file was lost or damaged: started again, it is whole."""
    home, cases, _ = own_results()
    shutil.copytree(home / "slices", folder / "slices")
    _spoil_one_file(rng, folder / "slices")
    recipe = Recipe(windows=("liver",), size=32)
    rows = extract_dataset(cases, recipe, folder / "slices", workers=1, write_png=False)
    require(rows.equals(read_slices(home / "slices" / "slices.csv")), "other rows")
    for name in ("images.npy", "masks.npy", "slices.csv"):
        path = Path("slices") / cases[0].case_id / name
        whole = (folder / path).exists() and (folder / path).read_bytes() == (home / path).read_bytes()
        require(whole, f"{name} stays wrong")


def predicted(rng: np.random.Generator, folder: Path) -> None:
    """A finished prediction of which a file was lost or damaged: started again, it is whole."""
    home, _, patients = own_results()
    shutil.copytree(home / "predicted", folder / "out")
    _spoil_one_file(rng, folder / "out")
    cases = predict_batch(patients, toy_predictor(), folder / "out")
    require(cases.state.tolist() == ["done"], f"{cases.reason.tolist()}")
    for path in (home / "predicted").rglob("*"):
        require((folder / "out" / path.relative_to(home / "predicted")).exists(), f"{path.name} is missing")
    mask = nibabel.load(folder / "out" / "one" / "mask.nii.gz")
    require((toy_labels(toy_voxels()) == np.asarray(mask.dataobj).T).all(), "another mask")
    files = (place / "one" / "measures.json" for place in (folder / "out", home / "predicted"))
    measured, before = (json.loads(path.read_text()) for path in files)
    require(measured == before, "other measures")


DOORS = {
    **{"slices.csv": slices_csv, "splits.csv": splits_csv},
    **{"scores.json": scores_json, "params.yaml": params_yaml},
    **{"--set": settings, "label names": label_names, "extracted": extracted, "predicted": predicted},
}
