"""The page in a real browser without a window: no errors, figures with sizes, links and folds that work."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HEIGHT = 3000
PROBE = """
<script>
const errors = [];
addEventListener("error", event => errors.push(event.message || String(event.target.outerHTML).slice(0, 80)), true);
addEventListener("load", () => {
  const size = node => {
    const r = (node.closest(".plot") || node).getBoundingClientRect();
    return [node.id, r.width, r.height, r.right];
  };
  const letters = [...document.querySelectorAll("main svg[role=img]")].map(svg =>
    7 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
  const folds = [...document.querySelectorAll("details")];
  const closed = folds.map(fold => fold.getBoundingClientRect().height);
  folds.forEach(fold => fold.querySelector("summary").click());
  const opened = folds.map(fold => fold.getBoundingClientRect().height);
  const links = [...document.querySelectorAll("nav a")].map(link => {
    link.click();
    return [link.hash, location.hash, document.querySelector(link.hash) !== null];
  });
  const told = JSON.stringify({
    errors, closed, opened, links, letters,
    figures: [...document.querySelectorAll("main svg[role=img], main img")].map(size),
    width: document.documentElement.scrollWidth, window: innerWidth,
    ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
  });
  parent.postMessage(told, "*");
});
</script>
"""
RELAY = """
<script>addEventListener("message", event => { document.querySelector("#told").textContent = event.data; });</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the path")
    return found


def run(browser: str, folder: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--hide-scrollbars", f"--user-data-dir={folder}", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=5000", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)


def framed(page: Path, width: int) -> Path:
    """A page that shows another in a frame so wide: a window of chromium is 500 pixels wide at least."""
    frame = page.with_name(f"frame-{width}-{page.name}")
    whole = f"border:0;width:{width}px;height:{HEIGHT}px"
    frame.write_text(f'<!doctype html><body style="margin:0"><iframe src="{page.name}" style="{whole}"></iframe>')
    return frame


def probed(browser: str, made: Path, folder: Path, width: int) -> tuple[dict, str]:
    """What the page reports in a frame of this width, and the browser's log."""
    copy = made / f"probed-{width}.html"
    copy.write_text((made / "index.html").read_text().replace("<head>", "<head>" + PROBE))
    outer = framed(copy, width)
    outer.write_text(outer.read_text() + '<pre id="told"></pre>' + RELAY)
    result = run(browser, folder, outer, "--window-size=1280,900", "--dump-dom")
    text = re.search(r'<pre id="told">(.+?)</pre>', result.stdout, re.DOTALL)
    assert text, result.stderr[-2000:]
    return json.loads(text[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")), result.stderr


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_works_at_a_phones_and_a_laptops_width(browser, made, tmp_path, width):
    told, log = probed(browser, made, tmp_path, width)
    assert told["errors"] == []
    assert "CONSOLE" not in log
    assert told["window"] == width
    assert len(told["figures"]) >= 16
    for name, wide, high, right in told["figures"]:
        assert wide > 200 and high > 90, name
        assert right <= told["window"], name
    assert told["width"] <= told["window"]
    assert min(told["letters"]) > 6.5  # pixels of the smallest, which are of 7 points
    assert all(opened > closed for closed, opened in zip(told["closed"], told["opened"], strict=True) if closed)
    assert told["links"] and all(wanted == got and there for wanted, got, there in told["links"])
    assert told["ink"] != told["paper"]


@pytest.mark.parametrize(("scheme", "is_dark"), [(0, True), (1, False)])
@pytest.mark.parametrize("width", [390, 1280])
def test_its_picture_is_of_that_size_and_dark_where_dark_is_preferred(browser, made, tmp_path, width, scheme, is_dark):
    picture = tmp_path / "page.png"
    options = [f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={max(width, 500)},{HEIGHT}"]
    run(browser, tmp_path / "browser", framed(made / "index.html", width), *options, f"--screenshot={picture}")
    with Image.open(picture) as image:
        assert image.size == (max(width, 500), HEIGHT)
        grey = np.asarray(image.convert("L"))[:, :width].astype(int)
    paper = np.bincount(grey.ravel()).argmax()
    assert paper < 60 if is_dark else paper > 200
    marked = np.abs(grey - paper) > 60
    assert marked.mean() > 0.01
    assert all(part.any() for part in np.array_split(marked, 10))
    assert not marked[:, -6:].any()


def printed(browser: str, folder: Path, page: Path) -> Path:
    pdf = folder / f"{page.stem}.pdf"
    run(browser, folder / "browser", page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    assert pdf.read_bytes().startswith(b"%PDF")
    return pdf


def test_its_print_has_the_folded_tables(browser, made, tmp_path):
    folded = made / "folded.html"
    folded.write_text((made / "index.html").read_text().replace("details::details-content", "details::nothing"))
    pdf, without = printed(browser, tmp_path, made / "index.html"), printed(browser, tmp_path, folded)
    assert pdf.stat().st_size > 1.1 * without.stat().st_size > 50_000
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
        assert "fkal run --params" in text
