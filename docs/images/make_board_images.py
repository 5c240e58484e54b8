"""Make board-light.png and board-dark.png from a run folder: `python docs/images/make_board_images.py runs/digits`.

Needs chromium on the path. The page is the one that `trainoff run` writes; nothing in it is changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trainoff import read_board
from trainoff.leaderboards.render import render

# Blink's numbers of the two colour schemes.
SCHEMES = {"dark": 0, "light": 1}


def main(folder: str) -> None:
    """Render the run folder's board and take a picture of its first screen in each colour scheme."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("chromium is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary) / "board.html"
        page.write_text(render(read_board(folder), "html"), encoding="utf-8")
        for scheme, number in SCHEMES.items():
            image = Path(__file__).resolve().parent / f"board-{scheme}.png"
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--user-data-dir={temporary}/profile-{scheme}", "--window-size=1280,726"]
            command += [f"--blink-settings=preferredColorScheme={number}", f"--screenshot={image}", page.as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            print(f"{image.name}: {image.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
