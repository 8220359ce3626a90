"""A patient page: whole, offline, escaped, and true to what it was given."""

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import solids
from hypothesis import given, settings
from hypothesis import strategies as st
from links import broken_links, external_resources
from PIL import Image

from livseg_lib.errors import InputError
from livseg_lib.evaluation.follow_up import TimePoint, compare_scans
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting import patient_page
from livseg_lib.reporting.charts import follow_up_changes
from livseg_lib.reporting.style import BLUE

SHAPE, SPACING = (12, 60, 80), (4.0, 1.0, 1.0)
HU = [patient_page.STORED_WINDOW.lower, patient_page.STORED_WINDOW.upper]
HOSTILE = "</script><script>alert('x')</script>"


def labels(shift: int = 0) -> np.ndarray:
    tumors = np.s_[5:8, 25:32, 30 + shift : 38 + shift], np.s_[6, 24, 30 + shift]  # most of it in slice 6
    return solids.labelled(SHAPE, *tumors, liver=np.s_[2:10, 15:45, 20 + shift : 60 + shift])


def view(**changes) -> patient_page.PatientView:
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    voxels = (60 + 40 * (labels() == 1) + noise - 1000 * (np.arange(SHAPE[2]) < 3)).astype(np.int16)
    table = pd.DataFrame({"system": ["unet", HOSTILE], "dice": [0.8123, np.nan]})
    content = {"case_id": "volume-1", "voxels": voxels, "spacing_mm": SPACING}
    content |= {"outlines": {"truth": labels(), "unet": labels(2)}, "tables": [("Dice", table)]}
    return patient_page.PatientView(**content | {"note": "A note."} | changes)


def page_data(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)[1])


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Path:
    """The page of `view()`; tests that share it only read."""
    return patient_page.write_patient_page(view(), tmp_path_factory.mktemp("usual"))


def windows_offered(text: str) -> list[str]:
    return re.findall(r'name="window" value="([^"]+)"', text)


def unpacked(script: Path) -> tuple[str, str]:
    """The name and the text of a packed script."""
    name, packed = re.fullmatch(r'livseg\.take\("([^"]+)", "([^"]+)"\);\n', script.read_text()).groups()
    return name, gzip.decompress(base64.b64decode(packed)).decode()


def test_page_and_files_are_there_and_resolve(usual):
    page, folder = usual, usual.parents[1]
    assert page == folder / "patients" / "volume-1.html"
    assert broken_links(page) == [] and external_resources(page) == []
    text = page.read_text()
    assert "not for clinical use" in text and "A note." in text and "0.812" in text
    data = page_data(page)
    names = {file.name for file in page.with_suffix("").iterdir()}
    scripts = {"outline-0.js", "outline-1.js", "surface.js", "thumbnail.webp"}
    assert names == {f"{k:03d}.jpg" for k in range(data["count"])} | scripts
    assert (page.parent / data["library"]).exists()
    assert not list(folder.rglob("*.partial*"))


def test_the_box_starts_where_it_says_and_the_page_opens_on_most_tumour(usual):
    data = page_data(usual)
    assert (data["first"], data["count"]) == (0, 12)  # 12 mm are three slices, more than there are
    assert data["first"] + data["start"] == 6
    truth = data["outlines"][0]
    assert truth["name"] == "truth" and truth["style"]["dash"] == "" != data["outlines"][1]["style"]["dash"]
    assert sum(truth["pixels"]["liver"]) == (labels() > 0).sum()


def test_the_page_opens_on_the_slice_of_its_thumbnail_in_the_bodys_proportions(tmp_path):
    shown = view(spacing_mm=(20.0, 1.0, 2.0))  # a margin of one slice: the box begins at slice 1
    page = patient_page.write_patient_page(shown, tmp_path)
    data, box = page_data(page), patient_page.view_box(shown.outlines.values(), SHAPE, shown.spacing_mm)
    assert (data["first"], data["start"]) == (1, 5)
    width, height = data["size"]
    assert data["aspect"] == pytest.approx(2 * width / height)  # columns are twice as far apart as rows
    patient_page.write_thumbnail(shown.voxels[6][box[1:]], labels()[6][box[1:]], tmp_path / "own.webp")
    assert (page.with_suffix("") / "thumbnail.webp").read_bytes() == (tmp_path / "own.webp").read_bytes()


def test_outlines_and_surfaces_are_packed_scripts_that_name_themselves(usual):
    folder = usual.with_suffix("")
    name, text = unpacked(folder / "outline-1.js")
    paths = json.loads(text)
    assert name == "outline-1" and list(paths) == ["liver", "tumor"] and len(paths["liver"]) == 12
    name, text = unpacked(folder / "surface.js")
    traces = [trace["name"] for trace in json.loads(text)["data"]]
    assert name == "surface" and traces[:2] == ["Liver, truth", "Tumours, truth"]
    (library,) = (usual.parents[1] / "assets").iterdir()
    assert "plotly.js" in unpacked(library)[1][:300]


@pytest.mark.parametrize(("low", "high", "stored"), [(0, 255, [0, 255]), (-1, 255, HU), (0, 256, HU)])
def test_grey_levels_keep_their_range_and_hu_theirs(tmp_path, low, high, stored):
    voxels = np.zeros(SHAPE, np.int16)
    voxels[0, 0, :2] = low, high
    assert page_data(patient_page.write_patient_page(view(voxels=voxels), tmp_path))["stored"] == stored


def test_windows_never_ask_for_more_than_pictures_hold(usual):
    data = page_data(usual)
    low, high = data["stored"]
    assert all(low <= a < b <= high for a, b in data["presets"].values()) and len(data["presets"]) == 5
    assert windows_offered(usual.read_text())[0] == "Liver"


def test_pictures_without_spacing_have_no_surface_and_the_page_says_why(tmp_path):
    grey = np.clip(view().voxels, 0, 255)
    page = patient_page.write_patient_page(view(voxels=grey, spacing_mm=(np.nan,) * 3), tmp_path)
    text = page.read_text()
    assert "There is no 3D view" in text and "open-surface" not in re.sub(r"<script>.*", "", text, flags=re.S)
    assert not (tmp_path / "assets").exists() and not (page.with_suffix("") / "surface.js").exists()
    data = page_data(page)
    assert data["unit"] == "grey levels" and data["stored"] == [0, 255] and "Liver" not in data["presets"]
    assert windows_offered(text)[0] == "All stored"


@pytest.mark.parametrize("outlines", [{}, {"unet": np.zeros(SHAPE, np.uint8)}, {"unet": labels()}])
def test_without_truth_or_without_anything_found(tmp_path, outlines):
    page = patient_page.write_patient_page(view(outlines=outlines, tables=[]), tmp_path)
    data = page_data(page)
    assert len(data["outlines"]) == len(outlines) and 0 <= data["start"] < data["count"]
    assert ("Open the 3D view" in page.read_text()) == any(each.any() for each in outlines.values())
    assert all(outline["style"]["dash"] for outline in data["outlines"])  # dashed: nobody's truth


def test_hostile_names_stay_text(tmp_path):
    shown = view(outlines={"truth": labels(), HOSTILE: labels(1)}, note=HOSTILE)
    page = patient_page.write_patient_page(shown, tmp_path)
    text = page.read_text()
    assert HOSTILE not in text and text.count("<script") == 3
    assert page_data(page)["outlines"][1]["name"] == HOSTILE


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_names_that_are_no_file_names_and_other_shapes_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot name a file"):
        patient_page.write_patient_page(view(case_id=name), tmp_path)
    with pytest.raises(InputError, match="not volumes of one shape"):
        patient_page.write_patient_page(view(outlines={"unet": labels()[1:]}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_never_stands_without_its_files(tmp_path, monkeypatch):
    page = patient_page.write_patient_page(view(), tmp_path)
    monkeypatch.setattr("livseg_lib.reporting.patient_page.write_slice_pictures", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        patient_page.write_patient_page(view(), tmp_path)
    assert not page.exists() and not list(tmp_path.rglob("*.partial*"))


def test_writing_again_replaces_all_and_gives_the_same(tmp_path):
    page = patient_page.write_patient_page(view(), tmp_path)
    first = {file.name: file.read_bytes() for file in page.with_suffix("").iterdir()}
    (page.with_suffix("") / "old.webp").write_bytes(b"stale")
    patient_page.write_patient_page(view(), tmp_path)
    assert {file.name: file.read_bytes() for file in page.with_suffix("").iterdir()} == first


def test_a_link_back_only_where_there_is_a_report(tmp_path):
    assert "../index.html" not in patient_page.write_patient_page(view(), tmp_path).read_text()
    (tmp_path / "index.html").write_text("report")
    assert '<a href="../index.html">' in patient_page.write_patient_page(view(), tmp_path).read_text()


# The box and the pictures

SCAN = (20, 100, 120)


def marked(box) -> np.ndarray:
    return solids.labelled(SCAN, liver=box)


EVERYTHING = tuple(slice(0, size) for size in SCAN)


@pytest.mark.parametrize(
    ("outlines", "spacing_mm", "box"),
    [
        # 12 mm are 2 slices, 6 rows, 12 columns
        ([np.s_[8:10, 50:60, 50:60], np.s_[9:12, 70:71, 40:41]], (10, 2, 1), np.s_[6:14, 44:77, 28:72]),
        ([np.s_[:, 0:3, 118:120]], (5, 1, 1), np.s_[0:20, 0:15, 106:120]),  # it stays in the scan
        ([np.s_[3:4, 50:51, 50:51]], (np.nan,) * 3, np.s_[3:4, 34:67, 34:67]),  # pictures: in the slice only
        ([np.s_[0:0]], (5, 1, 1), EVERYTHING),
        ([], (5, 1, 1), EVERYTHING),
    ],
)
def test_the_box_holds_every_outline_with_a_margin_in_mm(outlines, spacing_mm, box):
    assert patient_page.view_box(map(marked, outlines), SCAN, spacing_mm) == box


def test_pictures_are_numbered_reduced_and_true_to_what_they_say(tmp_path):
    rng = np.random.default_rng(0)
    voxels = (rng.normal(60, 20, (3, 250, 400)) + np.linspace(0, 100, 400)).astype(np.int16)
    error_hu = patient_page.write_slice_pictures(voxels, tmp_path, patient_page.STORED_WINDOW)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["000.jpg", "001.jpg", "002.jpg"]
    with Image.open(tmp_path / "001.jpg") as picture:
        assert picture.size == (patient_page.MAX_SIDE_PIXELS, 240)
        grey = np.asarray(picture.convert("L"), float)
    assert grey.mean() == pytest.approx(apply_window(voxels[1], patient_page.STORED_WINDOW).mean(), abs=1)
    squares = []
    for number, hu in enumerate(voxels):
        with Image.open(tmp_path / f"{number:03d}.jpg") as picture:
            kept = np.asarray(picture.convert("L"), float)
        grey = apply_window(hu, patient_page.STORED_WINDOW)
        reduced = cv2.resize(grey, picture.size, interpolation=cv2.INTER_AREA)
        squares.append((kept - reduced) ** 2)
    assert error_hu == pytest.approx(500 / 255 * np.mean(squares) ** 0.5, rel=1e-5) and 0 < error_hu < 20


def test_a_thumbnail_shows_the_outlines_in_colour(tmp_path):
    labels = marked(np.s_[0:1, 20:80, 20:80])[0]
    patient_page.write_thumbnail(np.full(SCAN[1:], 75, np.int16), labels, tmp_path / "a.webp")
    patient_page.write_thumbnail(np.full(SCAN[1:], 75, np.int16), None, tmp_path / "b.webp")
    spread = []
    for name in ("a", "b"):
        with Image.open(tmp_path / f"{name}.webp") as picture:
            rgb = np.asarray(picture.convert("RGB"), int)
        spread.append(np.ptp(rgb, axis=-1).max())
    assert spread[0] > 40 > 10 > spread[1]


# Outlines

FINE = 8
"""Pixels of the drawing for each unit of a path."""


def polygons(path: str) -> list[np.ndarray]:
    """Corners (N, 2), x and y in half voxels, of each closed part of a path "Mx ydx dy ..."."""
    parts = []
    for part in path.split("z")[:-1]:
        steps = np.array(re.findall(r"-?\d+", part), int)  # the start, then from each corner to the next
        parts.append(np.cumsum(steps.reshape(-1, 2), axis=0))
    return parts


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """What the path encloses by "evenodd", drawn FINE times as large, in half voxels."""
    canvas = np.zeros((2 * shape[0] * FINE, 2 * shape[1] * FINE), np.uint8)
    for corners in polygons(path):
        layer = np.zeros_like(canvas)
        cv2.fillPoly(layer, [corners.astype(np.int32) * FINE], 1)
        canvas ^= layer
    return canvas


@pytest.mark.parametrize(
    ("shape", "marked", "low", "high"),
    [
        ((4, 5), np.s_[1:3, 1:4], [2, 2], [8, 6]),  # rows 1 and 2: y from 2 to 6 in half voxels
        ((3, 3), np.s_[1, 1], [2, 2], [4, 4]),  # a speck keeps its corners
        ((6, 9), np.s_[:, :], [0, 0], [18, 12]),  # closed at the picture's border
    ],
)
def test_outlines_by_hand(shape, marked, low, high):
    mask = np.zeros(shape, bool)
    mask[marked] = True
    (corners,) = polygons(patient_page.outline_path(mask))
    assert corners.min(axis=0).tolist() == low and corners.max(axis=0).tolist() == high


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), blur=st.floats(0.5, 4))
def test_the_line_is_nowhere_farther_from_the_mask_than_it_says(seed, blur):
    noise = np.random.default_rng(seed).normal(size=(24, 30)).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (0, 0), blur) > 0
    drawn = filled(patient_page.outline_path(mask), mask.shape).astype(bool)
    truth = np.kron(mask, np.ones((2 * FINE, 2 * FINE), bool))
    # One voxel from the border on, either way, nothing differs: half a voxel of a cut corner, half of
    # simplification.
    voxel = np.ones((2 * 2 * FINE + 1, 2 * 2 * FINE + 1), np.uint8)
    inner = cv2.erode(truth.astype(np.uint8), voxel, borderValue=0).astype(bool)
    outer = cv2.dilate(truth.astype(np.uint8), voxel).astype(bool)
    assert (drawn | ~inner).all() and (outer | ~drawn).all()


def test_structures_of_labels():
    labels = solids.labelled((2, 8, 8), np.s_[0, 3:5, 3:5], liver=np.s_[0, 2:6, 2:6])
    paths = patient_page.outline_paths(labels)
    assert list(paths) == ["liver", "tumor"] and [bool(path) for path in paths["tumor"]] == [True, False]
    assert paths["liver"][0] == patient_page.outline_path(labels[0] >= 1)  # a tumour is liver, too
    assert patient_page.outline_paths(np.zeros((2, 8, 8), np.uint8)) == {}


# 3D

BODY, VOXEL_MM = (40, 180, 200), (4.0, 0.8, 0.8)


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """Its centre is measured from the volume's corner."""
    return solids.ball(BODY, np.subtract(centre_mm, np.divide(VOXEL_MM, 2)), radius_mm, VOXEL_MM)


def labels_with(*tumors: np.ndarray) -> np.ndarray:
    return solids.labelled(BODY, *tumors, liver=ball((80, 70, 80), 60))


def volume_ml(trace) -> float:
    """Of a closed surface, by the divergence theorem."""
    points = np.stack([trace.x, trace.y, trace.z], axis=1).astype(float)
    a, b, c = (points[np.asarray(trace[corner])] for corner in "ijk")
    return abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6000


def test_a_ball_lies_where_it_is_and_is_as_large():
    figure = patient_page.surface_figure({"truth": labels_with(ball((90, 60, 100), 15))}, VOXEL_MM)
    liver, tumors = figure.data
    assert (liver.name, tumors.name) == ("Liver, truth", "Tumours, truth")
    for axis, middle in zip("xyz", (100, 60, 90), strict=True):  # columns, rows, slices
        assert np.mean([tumors[axis].min(), tumors[axis].max()]) == pytest.approx(middle, abs=2)
        assert np.ptp(tumors[axis]) == pytest.approx(30, abs=4)
    assert volume_ml(liver) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.06)
    assert volume_ml(tumors) == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.15)


def test_the_smallest_tumour_keeps_a_surface():
    speck = np.zeros(BODY, bool)
    speck[20, 90, 100] = True
    (_, tumors) = patient_page.surface_figure({"truth": labels_with(speck)}, VOXEL_MM).data
    assert tumors.x.mean() == pytest.approx(100.5 * 0.8, abs=1.5) and len(tumors.i) > 0
    (_, tiny) = patient_page.surface_figure({"truth": labels_with(speck)}, (1e-3,) * 3).data
    assert len(tiny.i) > 0  # within memory


def test_only_truth_and_the_first_prediction_are_on_and_the_rest_waits_in_the_legend():
    one = labels_with(ball((90, 60, 100), 12))
    figure = patient_page.surface_figure({"truth": one, "a": one, "b": one}, VOXEL_MM)
    shown = [trace.name for trace in figure.data if trace.visible is True]
    assert shown == ["Liver, truth", "Tumours, truth", "Tumours, a"]
    assert len(figure.data) == 6 and len({trace.color for trace in figure.data}) == 4
    assert figure.data[3].color == BLUE
    liver, tumors, other_liver, other_tumors, *_ = (trace.opacity for trace in figure.data)
    assert other_liver < liver < other_tumors < tumors == 1  # what is inside shines through


def test_many_specks_are_cut_to_the_largest_and_that_is_said():
    labels = labels_with()
    labels[20, 60:120:4, 60:140:4] = 2
    labels[20, 116:118, 136:138] = 2  # the largest, and the last to be found
    (_, tumors) = patient_page.surface_figure({"truth": labels}, VOXEL_MM).data
    assert tumors.name.endswith(f"({patient_page.MAX_TUMORS} largest of 300)".replace("(", "(the "))
    assert len(tumors.i) <= patient_page.MAX_TRIANGLES and tumors.y.max() > 116 * 0.8


def scan(*columns: tuple[int, int]) -> TimePoint:
    bars = (np.s_[2, 10 + 12 * n, first : first + length] for n, (first, length) in enumerate(columns))
    labels = solids.labelled((5, 60, 70), *bars, liver=np.s_[1:4, 5:55, 5:65])
    return TimePoint(labels, (1.0, 1.0, 1.0))


def test_a_follow_up_draws_every_group_and_its_targets_bold():
    found = compare_scans(scan((20, 20), (20, 5), (40, 8)), scan((20, 10), (20, 5)))
    nothing = compare_scans(scan(), scan())
    panels = follow_up_changes({"truth": found, "net": nothing}).axes
    assert panels[0].get_title(loc="left") == "truth\npartial response"
    assert [line.get_linewidth() for line in panels[0].lines] == [2.4, 1.2, 1.2]
    assert [text.get_text() for text in panels[0].texts] == ["−51 %", "0 %", "vanished"]
    assert not panels[1].lines
    tumors, livers = patient_page.conclude_follow_up("truth", found)
    assert "2 matched, 1 vanished" in tumors and "partial response" in tumors and "(-51%)" in tumors
    assert livers.endswith("Dice 1.00.")
    apart = replace(found, matching=replace(found.matching, liver_dice=0.6))
    assert "matched wrongly" in patient_page.conclude_follow_up("truth", apart)[1]
    assert "no tumour" in patient_page.conclude_follow_up("net", nothing)[0]


def test_a_follow_up_of_many_tumors_names_the_largest_beside_the_panel():
    labels = scan((60, 5)).labels.copy()
    labels[2, 25:50:6, 8:60:6] = 2  # 45 specks
    specks = TimePoint(labels, (1.0, 1.0, 1.0))
    [panel] = follow_up_changes({"truth": compare_scans(specks, specks)}).axes
    low, high = panel.get_ylim()
    heights = [text.get_position()[1] for text in panel.texts]
    assert len(panel.lines) == 46 and len(heights) < 20
    assert low <= min(heights) and max(heights) <= high
    assert max(heights) > 4  # the tumour of 5 mm is among them
