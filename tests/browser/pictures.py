"""Makes the pictures of the status page in docs/images: ``python -m tests.browser.pictures``.

Needs chromium, and Pillow (no dependency of the project) to reduce the colours:
``PYTHONPATH=FOLDER_WITH_PILLOW``. Without Pillow the files are three times as large.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.support.browser import DESKTOP, PHONE, running_chromium, tab_of
from tests.support.page_scenes import NOW, SCENES, TOLD, scene_served

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@dataclass(frozen=True)
class Picture:
    """One file."""

    name: str
    scene: str
    path: str = "/"
    size: tuple[int, int] = DESKTOP
    dark: bool = False
    height: int = 1200


STORY = f"/jobs/{TOLD}"

PICTURES = (
    Picture("idle", "idle", height=900),
    Picture("busy", "busy"),
    Picture("modeldb-down", "modeldb-down"),
    Picture("thousand-jobs", "thousand-jobs", "/?outcome=rejected"),
    Picture("job", "busy", STORY, height=1400),
    Picture("phone", "modeldb-down", size=PHONE, height=1500),
    Picture("dark", "busy", dark=True),
)


def reduced(png: bytes) -> bytes:
    """The picture with at most 256 colours, if Pillow is there."""
    try:
        image = import_module("PIL.Image")
    except ImportError:
        print("without Pillow: the colours are not reduced", file=sys.stderr)
        return png
    opened = image.open(io.BytesIO(png)).convert("RGB")
    small = io.BytesIO()
    opened.quantize(colors=256, method=0, kmeans=1, dither=0).save(small, "png", optimize=True)
    return small.getvalue()


async def make(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as profile, running_chromium(Path(profile)) as chromium:
        for picture in PICTURES:
            with tempfile.TemporaryDirectory() as data:
                scene = SCENES[picture.scene](NOW)
                async with scene_served(scene, Path(data)) as server, tab_of(chromium) as tab:
                    await tab.look(picture.size, dark=picture.dark)
                    await tab.open(f"http://127.0.0.1:{server.port}{picture.path}")
                    png = reduced(await tab.picture(picture.height))
                path = folder / f"page-{picture.name}.png"
                path.write_bytes(png)
                print(f"{path}: {len(png) // 1024} kB")


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
