"""Make docs/picture.png, the picture of the README, from what `make demo` leaves: python docs/picture.py demo

Above, what `views.py` shows of three galaxies; below, figures of the report that `evaluate.py` wrote. The present one
is of 900 galaxies and 8 epochs. It needs a Chromium (CONTRIBUTING.md), whose path the variable CHROMIUM may name.
"""

import base64
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FIGURES = ("RMSE of each question", "RMSE by epoch", "smooth or disk: smooth", "smooth or disk: features or disk")
"""How the descriptions of the figures in the report begin."""

STYLE = """
body { margin: 0; padding: 0; width: 1000px; max-width: none; background: var(--page); }
#figures { display: grid; grid-template-columns: 1.9fr 1fr 1fr; gap: 8px 20px; padding: 16px; align-items: center; }
.drawing { overflow: hidden; }
.drawing > svg { width: 100%; min-width: 0; max-width: none; }
.drawing:nth-child(1) { grid-row: span 2; }
.drawing:nth-child(2) { grid-column: span 2; }
"""
COMPOSE = """([sheet, names, style]) => {
    const drawings = [...document.querySelectorAll(".drawing")];
    const find = name => drawings.find(each => each.ariaLabel.startsWith(name)).outerHTML;
    const figures = names.map(find).join("");
    const above = `<style>${style}</style><img width="1000" src="${sheet}">`;
    document.body.innerHTML = `${above}<div id="figures">${figures}</div>`;
    return document.querySelector("img").decode();
}"""


def main(demo: Path, out: Path) -> None:
    """Draw the sheet of views, put the figures below it in the report's own dark page, and take its picture."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        sheet = Path(folder) / "sheet.png"
        command: list[str | Path] = [sys.executable, ROOT / "views.py", demo / "shards", sheet]
        subprocess.run([*command, "--count", "3", "--size", "118"], check=True)
        browser = playwright.chromium.launch(executable_path=path)
        page = browser.new_page(
            viewport={"width": 1000, "height": 800}, color_scheme="dark", reduced_motion="reduce"
        )
        page.goto((demo / "report" / "report.html").resolve().as_uri())
        source = f"data:image/png;base64,{base64.b64encode(sheet.read_bytes()).decode()}"
        page.evaluate(COMPOSE, [source, FIGURES, STYLE])
        shot = page.locator("body").screenshot()
        browser.close()
    picture = Image.open(io.BytesIO(shot)).convert("RGB").point(lambda value: value & 0xFC)  # noise costs bytes
    picture.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "picture.png")
