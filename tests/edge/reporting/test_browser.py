"""The page in a real browser without a window: no errors, figures with sizes, links and folds that work."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROBE = """
<script>
const errors = [];
addEventListener("error", event => errors.push(event.message || String(event.target.outerHTML).slice(0, 80)), true);
addEventListener("load", () => {
  const size = node => { const r = node.getBoundingClientRect(); return [node.id, r.width, r.height, r.right]; };
  const folds = [...document.querySelectorAll("details")];
  const closed = folds.map(fold => fold.getBoundingClientRect().height);
  folds.forEach(fold => fold.querySelector("summary").click());
  const opened = folds.map(fold => fold.getBoundingClientRect().height);
  const links = [...document.querySelectorAll("nav a")].map(link => {
    link.click();
    return [link.hash, location.hash, document.querySelector(link.hash) !== null];
  });
  const told = document.createElement("pre");
  told.id = "probe";
  told.textContent = JSON.stringify({
    errors, closed, opened, links,
    figures: [...document.querySelectorAll("main svg[role=img], main img")].map(size),
    width: document.documentElement.scrollWidth, window: innerWidth,
    ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
  });
  document.body.append(told);
});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the path")
    return found


def probed(browser: str, made: Path, folder: Path, width: int) -> tuple[dict, str]:
    """What the page tells of itself in a window so wide, and the browser's log."""
    copy = made / f"probed-{width}.html"
    copy.write_text((made / "index.html").read_text().replace("<head>", "<head>" + PROBE))
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}",
        "--enable-logging=stderr",
    ]
    command += [f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    text = re.search(r'<pre id="probe">(.*?)</pre>', result.stdout, re.DOTALL)
    assert text, result.stderr[-2000:]
    return json.loads(text[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")), result.stderr


@pytest.mark.parametrize("width", [500, 1280])  # a window of chromium is 500 pixels wide at least
def test_the_page_works_at_a_phones_and_a_laptops_width(browser, made, tmp_path, width):
    told, log = probed(browser, made, tmp_path, width)
    assert told["errors"] == []
    assert "CONSOLE" not in log
    assert len(told["figures"]) >= 16
    for name, wide, high, right in told["figures"]:
        assert wide > 200 and high > 90, name
        assert right <= told["window"], name
    assert told["width"] <= told["window"]
    assert all(opened > closed for closed, opened in zip(told["closed"], told["opened"], strict=True) if closed)
    assert told["links"] and all(wanted == got and there for wanted, got, there in told["links"])
    assert told["ink"] != told["paper"]
