"""The pages as a reader meets them: in Chromium, from disk, without a network."""

import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from solids import ball

from livseg_lib.outputs import update_systems_table, write_table
from livseg_lib.reporting.patient_page import PatientView, write_patient_page
from livseg_lib.reporting.report import write_report

SHAPE, SPACING = (30, 120, 150), (4.0, 1.0, 1.0)
expect = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright").expect
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE_MS = 60_000
"""For 3D without a graphics card, beside other work."""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report with one patient: tumour in slices 16 to 20 of 30, most of it in slice 18."""
    folder = tmp_path_factory.mktemp("browser") / "phantom-quick"
    labels = ball(SHAPE, (60, 60, 70), 45, SPACING).astype(np.uint8)
    labels[ball(SHAPE, (72, 60, 60), 9, SPACING)] = 2
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    voxels = (np.where(labels == 2, 60, np.where(labels == 1, 110, -80)) + noise).astype(np.int16)
    dice = {"a": 0.5, "b": np.nan, "c": 0.9}
    rows = [{"system": name, "target": "tumor", "dice_per_case": each} for name, each in dice.items()]
    rows = [row | {"split_by": "patient"} for row in rows]
    update_systems_table(folder / "tables" / "systems.csv", rows)
    scores = {"case": ["volume-1"], "system": ["a"], "structure": ["tumor"], "dice": [0.5]}
    write_table(pd.DataFrame(scores), folder / "tables" / "patients.csv")
    table = pd.DataFrame({"system": ["a", "b"], "dice": [0.5, 0.9]})
    outlines = {"truth": labels, "unet": np.roll(labels, 4, axis=2), "other": np.roll(labels, -3, axis=1)}
    view = PatientView("volume-1", voxels, SPACING, outlines, [("Dice", table)])
    write_report(folder)
    write_patient_page(view, folder)
    write_report(folder)
    return folder


@contextmanager
def opened(browser, file: Path, size: dict, **options):
    """The page of `file`; nothing may fail on it, and nothing may be asked of a network."""
    page = browser.new_page(viewport=size, **options)
    faults, addresses = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert faults == []
    page.close()  # pictures that are still being fetched fail by this
    assert addresses and all(re.match("file:|data:|blob:", address) for address in addresses)


@pytest.fixture
def patient(browser, report):
    with opened(browser, report / "patients" / "volume-1.html", DESKTOP) as page:
        yield page


def slice_number(page) -> int:
    return int(re.match(r"Slice (\d+)", page.inner_text("#where"))[1])


def drawn(page) -> int:
    """Lines on the picture: an outline of a structure has one, and its dark edge another."""
    page.wait_for_timeout(100)
    return page.locator("#drawing path").count() // 2


def test_keys_turn_the_slices(patient):
    assert slice_number(patient) == 18  # most tumour
    keys = {"ArrowUp": 19, "ArrowRight": 20, "ArrowDown": 19, "PageUp": 24, "PageDown": 19, "t": 18}
    for key, expected in keys.items():
        patient.keyboard.press(key)
        assert slice_number(patient) == expected, key
    patient.keyboard.press("Home")
    first = slice_number(patient)
    patient.keyboard.press("ArrowLeft")
    assert slice_number(patient) == first  # nothing below the first
    patient.keyboard.press("End")
    assert slice_number(patient) > 20 and "000.jpg" not in patient.get_attribute("#picture", "src")


def test_wheel_slider_and_hash_turn_the_slices(patient, report):
    patient.hover("#stage")
    patient.mouse.wheel(0, -100)
    expect(patient.locator("#where")).to_contain_text("Slice 21 ")
    patient.focus("#slider")
    patient.keyboard.press("ArrowLeft")
    assert slice_number(patient) == 20
    patient.goto((report / "patients" / "volume-1.html").as_uri() + "#slice-12")
    patient.reload()
    assert slice_number(patient) == 12


def test_outlines_are_switched_on_filled_and_off(patient):
    assert patient.evaluate("picture.complete && picture.naturalWidth > 100")
    expect(patient.locator("#drawing path")).to_have_count(8)
    assert patient.locator("#drawing path[stroke-dasharray='']").count() == 4  # the truth is solid
    patient.check("[data-outline='2']")
    expect(patient.locator("#drawing path")).to_have_count(12)
    assert "other: liver and tumour" in patient.inner_text("#where")
    patient.uncheck("[data-structure='liver']")
    assert drawn(patient) == 3
    patient.check("#fill")
    assert patient.locator("#drawing path[style*='fill-opacity']").count() == 3
    patient.focus("#stage")
    patient.keyboard.press("o")
    assert not patient.is_visible("#drawing")


def test_windows_stretch_the_grey_levels_as_they_say(patient):
    """A pixel of the stored picture, filtered by the browser, against the window's own arithmetic."""
    patient.check("[name=window][value=Narrow]")
    shown = patient.evaluate(
        """() => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 1 });
          const context = canvas.getContext("2d");
          const ramp = context.createImageData(256, 1);
          for (let k = 0; k < 256; k++) ramp.data.set([k, k, k, 255], 4 * k);
          context.putImageData(ramp, 0, 0);
          const copy = Object.assign(document.createElement("canvas"), { width: 256, height: 1 });
          const filtered = copy.getContext("2d");
          filtered.filter = picture.style.filter;
          filtered.drawImage(canvas, 0, 0);
          return [...filtered.getImageData(0, 0, 256, 1).data].filter((_, at) => at % 4 === 0);
        }"""
    )
    hu = -200 + np.arange(256) * 500 / 255
    expected = np.clip((hu - 0) / 150 * 255, 0, 255)
    assert np.abs(np.array(shown) - expected).max() <= 5  # two roundings to 8 bit, the first stretched


def test_zoom_stays_inside_the_picture(patient):
    patient.click("[data-do=larger]")
    assert "scale(1.4)" in patient.get_attribute("#layer", "style")
    patient.hover("#stage")
    patient.mouse.down()
    patient.mouse.move(1270, 890)
    patient.mouse.move(5, 5)
    patient.mouse.up()
    right, below = (float(px) for px in re.findall(r"(-?[\d.]+)px", patient.get_attribute("#layer", "style")))
    box = patient.locator("#stage").bounding_box()
    assert [right, below] == pytest.approx([-0.4 * box["width"], -0.4 * box["height"]], abs=2)
    patient.click("[data-do=whole]")
    assert "scale(1)" in patient.get_attribute("#layer", "style")


def test_the_3d_view_opens_from_disk(patient, tmp_path):
    patient.click("#open-surface")
    patient.wait_for_selector("#surface canvas", timeout=PATIENCE_MS)
    expect(patient.locator("#surface .legendtext")).to_have_count(6, timeout=PATIENCE_MS)
    legend = patient.locator("#surface .legendtext").all_text_contents()
    assert legend[:4] == ["Liver, truth", "Tumours, truth", "Liver, unet", "Tumours, unet"]
    assert not patient.is_visible("#surface-message")
    file = tmp_path / "patient.png"
    patient.locator("#surface").screenshot(path=file)
    assert file.stat().st_size > 10_000  # an empty canvas is far smaller


def test_without_webgl_the_page_says_so(browser, report):
    with opened(browser, report / "patients" / "volume-1.html", DESKTOP) as page:
        page.evaluate("HTMLCanvasElement.prototype.getContext = () => null")
        page.click("#open-surface")
        assert "cannot draw in 3D" in page.inner_text("#surface-message")


def test_a_page_copied_without_its_library_says_what_is_missing(browser, tmp_path):
    labels = ball(SHAPE, (60, 60, 70), 30, SPACING).astype(np.uint8)
    view = PatientView("alone", labels.astype(np.int16), SPACING, {"unet": labels})
    file = write_patient_page(view, tmp_path)
    next((tmp_path / "assets").iterdir()).unlink()
    page = browser.new_page()
    page.goto(file.as_uri())
    page.click("#open-surface")
    expect(page.locator("#surface-message")).to_contain_text("is missing")
    page.close()


@pytest.mark.parametrize("name", ["index.html", "patients/volume-1.html", "cards/a.html", "cards/data.html"])
def test_pages_fit_a_phone(browser, report, name):
    with opened(browser, report / name, PHONE, has_touch=True, is_mobile=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_every_control_has_a_name(patient):
    nameless = patient.evaluate(
        """() => [...document.querySelectorAll("button, input, [tabindex]")]
          .filter((e) => !(e.ariaLabel || e.innerText || e.labels?.[0]?.innerText).trim())
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []


def column(page, number: int) -> list[str]:
    rows = page.locator("#systems table.sortable tbody tr")
    return [rows.nth(k).locator("td").nth(number).inner_text().split("\n")[0] for k in range(rows.count())]


def test_tables_sort_by_the_keyboard_with_undefined_values_last(browser, report):
    with opened(browser, report / "index.html", DESKTOP) as page:
        assert column(page, 0) == ["c", "a", "b"]  # best tumour Dice first
        heading = page.locator("#systems th", has_text="Dice per patient")
        heading.locator("button").focus()
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "descending" and column(page, 0) == ["c", "a", "b"]
        page.keyboard.press("Space")
        assert heading.get_attribute("aria-sort") == "ascending" and column(page, 0) == ["a", "c", "b"]
        name = page.locator("#systems th").first
        name.locator("button").click()
        assert name.get_attribute("aria-sort") == "ascending" and column(page, 0) == ["a", "b", "c"]
        assert heading.get_attribute("aria-sort") is None


def test_print_has_slice_and_tables_but_no_buttons(patient):
    patient.emulate_media(media="print")
    assert patient.is_visible("#picture") and patient.is_visible("#measures table")
    assert not patient.is_visible(".tools") and not patient.is_visible("#open-surface")
    assert patient.pdf(format="A4").startswith(b"%PDF")
