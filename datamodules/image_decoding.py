"""Image files to arrays of pixels, through PIL: all of one size, all grey or all colour."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.hub import check_column
from trainoff.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY = {"1", "L", "LA"}
_DEEP = ("I", "F")  # of more than 8 bits, which a conversion to 8 would clip silently

Pixels = npt.NDArray[np.uint8]


class ImageSource(NamedTuple):
    """One image that is not decoded yet: where it is, for messages, and its path or its bytes."""

    where: str
    content: Path | bytes


class ImageFormat(NamedTuple):
    """What all images of a set are made to be: channels (1 or 3), height and width."""

    channels: int
    height: int
    width: int


def check_resize(resize: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width of the argument ``resize``, a number for a square; :class:`UserError` for anything else."""
    if resize is None:
        return None
    sides = [resize, resize] if isinstance(resize, int) else list(resize)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise UserError(f"{resize!r} is neither a number of pixels nor [height, width]", "resize")
    return sides[0], sides[1]


def common_format(sources: Iterable[ImageSource], resize: tuple[int, int] | None) -> ImageFormat:
    """The format of a set: three channels where any image has colour; the size that all have, or ``resize``.

    It reads the images' headers only.

    Raises:
        UserError: Naming the image that cannot be read, or that has another size than the first one.
    """
    is_grey, first = True, None
    for source in sources:
        with _opened(source) as image:
            mode, size = image.mode, image.size
        if mode.startswith(_DEEP):
            raise UserError(f"has pixels of more than 8 bits (mode {mode}); convert it to 8", source.where)
        is_grey &= mode in _GREY
        first = first or (source.where, size)
        if resize is None and size != first[1]:
            raise UserError(
                f"is {size[0]} x {size[1]} pixels and {first[0]} is {first[1][0]} x {first[1][1]}; give resize=",
                source.where,
            )
    if first is None:
        raise UserError("there are no images")
    height, width = resize or (first[1][1], first[1][0])
    return ImageFormat(1 if is_grey else 3, height, width)


def decode_images(sources: Iterable[ImageSource], count: int, form: ImageFormat) -> Pixels:
    """Decode images to uint8 ``(count, channels, height, width)``.

    Another size is resampled bilinearly, over an area as large as a new pixel, so that nothing is skipped.

    Raises:
        UserError: Naming the image that is corrupt or truncated.
    """
    from PIL.Image import Resampling

    pixels: Pixels = np.empty((count, *form), np.uint8)
    for place, source in enumerate(sources):
        with _opened(source) as image:
            try:
                converted = image.convert("L" if form.channels == 1 else "RGB")
            except (OSError, ValueError, SyntaxError) as error:
                raise UserError(f"is corrupt ({error}); get the image again", source.where) from error
        if converted.size != (form.width, form.height):
            converted = converted.resize((form.width, form.height), Resampling.BILINEAR)
        pixels[place] = np.asarray(converted).reshape(form.height, form.width, form.channels).transpose(2, 0, 1)
    return pixels


class HubColumn:
    """The images of one split of a hub set, not decoded, in order; it may be iterated again.

    Args:
        split: A ``datasets.Dataset``.
        column: The name of a column of images.
        where: What the set is called in messages.

    Raises:
        UserError: Where there is no such column, or it holds no images.
    """

    def __init__(self, split: Any, column: str, where: str) -> None:
        from datasets import Image

        check_column(split.features, column, where)
        if not isinstance(split.features[column], Image):
            raise UserError(f"its column '{column}' holds no images ({split.features[column]})", where)
        self._rows = split.select_columns([column]).cast_column(column, Image(decode=False))
        self._column, self._where = column, where

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[ImageSource]:
        place = 0
        for rows in self._rows.iter(batch_size=1000):
            for cell in rows[self._column]:
                content = None if cell is None else cell["bytes"] or (cell["path"] and Path(cell["path"]))
                if not content:
                    raise UserError("has no image", f"{self._where}, row {place}")
                yield ImageSource(f"{self._where}, row {place}", content)
                place += 1


def _opened(source: ImageSource) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(source.content) if isinstance(source.content, bytes) else source.content)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # PIL's own message names a BytesIO by its address
        reason = "is no image that PIL knows" if isinstance(error, UnidentifiedImageError) else f"({error})"
        raise UserError(f"cannot be read: {reason}; get the image again", source.where) from error
