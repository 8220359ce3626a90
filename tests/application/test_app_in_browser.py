"""The app as visitors see it: two at once, the slider, the download, a wrong file, nothing from elsewhere."""

import zipfile
from contextlib import closing

import pytest
from application.test_web_app import served  # noqa: F401
from application.toy_loading import load_toy
from application.toy_system import toy_voxels, write_toy_nifti
from test_shelf import make_run

from livseg_lib.application.answering import Workers
from livseg_lib.application.visits import Visits
from livseg_lib.application.web_app import Desk, open_page

WAIT = 90_000


@pytest.fixture
def visit(browser, served, request):  # noqa: F811
    """Opens the app for one visitor; afterwards nothing was asked of any other machine."""
    asked: list[str] = []
    contexts = []

    def open_page(width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(served[0])
        page.wait_for_selector("button:has-text('Outline')", timeout=WAIT)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [url for url in asked if not url.startswith((served[0], "data:", "blob:"))]


def outline(page, path) -> str:
    """Drop a file, press the button; the words of the answer."""
    page.set_input_files("input[type=file]", str(path))
    page.wait_for_selector(f"text={path.name.split('.')[-1]}", timeout=WAIT)
    page.click("button:has-text('Outline')")
    page.wait_for_selector(".verdict", timeout=WAIT)
    return page.inner_text(".verdict")


def test_two_visitors_see_each_their_own_answer(visit, tmp_path):
    anna, bela = visit(), visit(width=390)
    assert outline(anna, write_toy_nifti(tmp_path / "a.nii.gz", toy_voxels())) == "Tumour suspected"
    (tmp_path / "letter.nii.gz").write_text("dear doctor")
    assert outline(bela, tmp_path / "letter.nii.gz") == "That did not work"
    assert not bela.is_visible("input[type=range]")
    healthy = write_toy_nifti(tmp_path / "b.nii.gz", toy_voxels((9, 20, 16), tumor=False))
    assert outline_again(bela, healthy) == "No tumour suspected"
    assert anna.inner_text(".verdict") == "Tumour suspected"
    for page, last in ((anna, "5"), (bela, "8")):
        assert page.get_attribute("input[type=range]", "max") == last
    drawn = "img[src*='file=']"
    bela.wait_for_selector(drawn, timeout=WAIT)
    before = bela.get_attribute(drawn, "src")
    bela.focus("input[type=range]")
    bela.keyboard.press("End")
    changed = f'before => document.querySelector("{drawn}").getAttribute("src") !== before'
    bela.wait_for_function(changed, arg=before, timeout=WAIT)
    with bela.expect_download(timeout=WAIT) as coming:
        bela.click("a[download]:has-text('MB'), a[download]:has-text('KB')")
    with zipfile.ZipFile(coming.value.path()) as archive:
        assert "mask.nii.gz" in archive.namelist()
    assert bela.is_visible("text=Research only")


def test_what_was_trained_while_the_page_was_up_is_offered_to_the_next_visitor(browser, tmp_path):
    visits = Visits()
    desk = Desk(tmp_path, visits, Workers(visits.root, 1, load_toy))
    page = open_page(desk, quiet=True)
    with closing(page), closing(desk), closing(browser.new_context()) as context:
        anna, address = context.new_page(), page.local_url
        anna.goto(address)
        anna.wait_for_selector("button:has-text('Train the quick system')", timeout=WAIT)
        make_run(tmp_path, "run", 0, [("toy", "liver", "patient", 0.9)], ["toy"])
        bela = context.new_page()
        bela.goto(address)
        bela.wait_for_selector("button:has-text('Outline')", timeout=WAIT)
        bela.wait_for_selector("button:has-text('Train the quick system')", state="hidden", timeout=WAIT)


def outline_again(page, path) -> str:
    page.click("button[aria-label='Clear'], button[aria-label='Remove']")
    page.wait_for_selector("text=Drop File Here", timeout=WAIT)
    page.set_input_files("input[type=file]", str(path))
    page.wait_for_timeout(1000)
    page.click("button:has-text('Outline')")
    page.wait_for_selector("input[type=range]", timeout=WAIT)
    return page.inner_text(".verdict")
