"""How a stored picture is turned relative to reading position: the patient's right at the left, head (or front) up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radir_pacs.dicom.json_model import Readable, numbers, values

_ALONG_AXIS = 0.7  # from this cosine on, a row or column counts as running along a patient axis (45 degrees)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """From the stored picture to the reading position: rows and columns swap first, then either may be reversed."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    def upright(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A stored picture [rows, columns] in reading position."""
        turned = picture.T if self.transposed else picture
        turned = turned[:, ::-1] if self.mirrored else turned
        return turned[::-1] if self.upside_down else turned

    def stored(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture in reading position lies on the stored one; fractions (column, row)."""
        x, y = 1 - x if self.mirrored else x, 1 - y if self.upside_down else y
        return (y, x) if self.transposed else (x, y)


def turn_of_radiograph(attributes: Readable) -> Turn:
    """By Patient Orientation (PS3.3 C.7.6.1.1.1); without a consistent one the picture counts as upright.

    In reading position rows run to the patient's left, of a lateral view to the back, and columns to the feet.
    """
    letters = [str(letter)[:1].upper() for letter in values(attributes, "PatientOrientation") if letter]
    if len(letters) != 2:
        return Turn()
    along_row, along_column = letters
    transposed = along_row in "HF"
    if transposed:
        along_row, along_column = along_column, along_row
    if along_row not in "LRAP" or along_column not in "HF":
        return Turn()
    return Turn(transposed=transposed, mirrored=along_row in "RA", upside_down=along_column == "H")


def turn_of_slice(attributes: Readable) -> Turn | None:
    """By Image Orientation (Patient): an axial slice is viewed from the feet, the front up; None for another plane."""
    cosines = numbers(attributes, "ImageOrientationPatient", 6)
    if cosines is None:
        return Turn()
    row, column = np.asarray(cosines[:3]), np.asarray(cosines[3:])
    if abs(row[0]) >= _ALONG_AXIS and abs(column[1]) >= _ALONG_AXIS:
        return Turn(mirrored=bool(row[0] < 0), upside_down=bool(column[1] < 0))
    if abs(row[1]) >= _ALONG_AXIS and abs(column[0]) >= _ALONG_AXIS:
        return Turn(transposed=True, mirrored=bool(column[0] < 0), upside_down=bool(row[1] < 0))
    return None
