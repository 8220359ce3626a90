"""Tables and figures as files: whole, small, and carrying their caption."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from PIL import Image

from livseg_lib.errors import InputError
from livseg_lib.outputs import (
    MAX_FIGURE_BYTES,
    SYSTEMS_COLUMNS,
    read_caption,
    read_table,
    replace_systems,
    save_figure,
    update_systems_table,
    write_table,
)
from livseg_lib.reporting.style import ORANGE, new_figure


def row(system="unet", target="liver", split_by="patient", **values) -> dict:
    return {"system": system, "target": target, "split_by": split_by, **values}


def test_a_row_replaces_its_like_in_place_and_keeps_the_rest_to_the_letter(tmp_path):
    path = tmp_path / "tables" / "systems.csv"
    other = row("resnet50_unet", dice_per_case=1 / 3, parameters=7)
    table = update_systems_table(path, [row(dice_per_case=0.1, parameters=1941105), other])
    assert tuple(table) == SYSTEMS_COLUMNS and table["iou"].isna().all()
    head, own, other = path.read_text().splitlines()
    assert head == ",".join(SYSTEMS_COLUMNS) and own.endswith(",1941105")  # stays a whole number
    undefined = row(dice_per_case=np.float32("nan"), n_test_patients=np.int64(3))
    table = update_systems_table(path, [undefined, row(split_by="slice", dice_per_case=0.95)])
    assert list(table["dice_per_case"]) == pytest.approx([np.nan, 0.95, 1 / 3], nan_ok=True)
    assert list(table["split_by"]) == ["patient", "slice", "patient"] and table["n_test_patients"][0] == 3
    assert path.read_text().splitlines()[3] == other
    update_systems_table(path, [row("manet")])  # behind one of which columns are empty
    assert other in path.read_text().splitlines()


@pytest.mark.parametrize("first", [0, 2])
def test_systems_stand_in_the_order_of_their_records_whoever_is_first(tmp_path, first):
    names = ["unet", "manet", "majority_vote", "a_net_of_mine", "my_net"]
    for name in ["my_net", *names[first::-1], *names[first + 1 :]]:
        systems = update_systems_table(tmp_path / "systems.csv", [row(name, "tumor"), row(name, "liver")])
        scores = replace_systems(tmp_path / "patients.csv", pd.DataFrame({"system": [name], "dice": [0.5]}))
    assert list(systems.system) == [name for name in names for _ in range(2)]
    assert list(systems.target) == ["tumor", "liver"] * 5 and list(scores.system) == names


def test_write_table_round_trip_and_empty_file(tmp_path):
    table = pd.DataFrame({"case": ["a,b", "ü"], "dice": [0.1234567890123, np.nan]})
    pd.testing.assert_frame_equal(read_table(write_table(table, tmp_path / "t.csv")), table)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError):
        read_table(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="is not there"):
        read_table(tmp_path / "gone.csv")


def test_the_caption_travels_with_the_picture(tmp_path):
    caption = "Dice ≥ 0.9 of „π“ <b>"
    path = save_figure(new_figure(3, 2), tmp_path / "figures", "empty", caption)
    assert list(path.parent.iterdir()) == [tmp_path / "figures" / "empty.png"]  # nothing partial is left
    assert read_caption(path) == caption
    Image.new("L", (4, 4)).save(tmp_path / "plain.png")
    assert read_caption(tmp_path / "plain.png") == ""


def test_noise_is_still_written_below_the_limit(tmp_path):
    figure = new_figure(5, 5)
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), dtype=np.uint8)
    figure.add_axes((0, 0, 1, 1)).imshow(noise)
    assert save_figure(figure, tmp_path, "noise").stat().st_size <= MAX_FIGURE_BYTES


def test_colours_survive_greys_stay_neutral_and_nothing_stays_open(tmp_path):
    figure = pyplot.figure(figsize=(2, 2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(np.linspace(0, 255, 10000).reshape(100, 100), cmap="gray")
    ax.axvspan(10, 20, color=ORANGE)
    with Image.open(save_figure(figure, tmp_path, "mixed")) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1_000_000)}
    assert any(np.abs(np.subtract(colour, (0xE6, 0x9F, 0x00))).max() <= 4 for colour in colours)
    assert sum(len(set(colour)) == 1 for colour in colours) >= 30
    assert (255, 255, 255) in colours and (0, 0, 0) in colours
    assert not pyplot.get_fignums()


def test_rows_and_files_with_other_columns_are_refused_and_the_file_is_untouched(tmp_path):
    path = tmp_path / "systems.csv"
    update_systems_table(path, [row(dice_per_case=0.5)])
    before = path.read_text()
    with pytest.raises(InputError, match="dise"):
        update_systems_table(path, [row(dice_per_case=0.7), row(dise=1)])
    assert path.read_text() == before
    write_table(pd.DataFrame({"system": ["unet"]}), path)
    with pytest.raises(InputError, match="columns"):
        update_systems_table(path, [row()])
