"""The child process that touches untrusted pixels: one request in, one answer out, for as long as it lives.

Started by ``pixels.PixelDecoder`` as ``python -m radir_pacs.dicom.decode_child REQUESTS ANSWERS MEMORY CPU PIXELS``:
two file descriptors and three limits. A request is a line: a JSON string, the path. An answer is a JSON line,
``{"error": reason}`` (with a ``code`` when memory ran out) or ``{"shape": […], "dtype": "<u2", "photometric": …}``
followed by the raw pixel bytes. Nothing is pickled, so a child taken over by a hostile
file can answer nonsense pixels and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from radir_pacs.reasons import ReasonCode

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"  # Deflated Image Frame Compression, unknown to pydicom 3.0
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


class NoPixels(Exception):
    """The object has no pixel data."""


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes its end."""
    requests_fd, answers_fd, memory_bytes, cpu_s, pixel_bytes = (int(a) for a in arguments)
    import pydicom.pixels

    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    with os.fdopen(requests_fd, "rb") as requests, os.fdopen(answers_fd, "wb") as answers:
        for line in requests:
            _limit_cpu(cpu_s)
            _answer(answers, str(json.loads(line)), pixel_bytes)


def _limit(which: int, value: int) -> None:
    # Some systems refuse some limits (macOS: RLIMIT_AS); the wall clock and the other limits still hold there.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (value, value))


def _limit_cpu(cpu_s: int) -> None:
    """Allow ``cpu_s`` more seconds of processor time from now on."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(spent.ru_utime + spent.ru_stime) + cpu_s + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))


def _answer(answers: IO[bytes], path: str, pixel_bytes: int) -> None:
    try:
        pixels, photometric = _decode(path, pixel_bytes)
    except NoPixels:
        answers.write(_line({"error": "the object has no pixel data"}))
    except MemoryError:
        answers.write(_line({"error": "decoding needs more memory than allowed", "code": ReasonCode.DECODE_MEMORY}))
    except RecursionError:
        answers.write(_line({"error": "sequences are nested too deeply"}))
    except Exception as error:  # the edge of the process: the reason goes to the parent, its text may quote the header
        answers.write(_line({"error": f"the pixels cannot be decoded ({type(error).__name__})"}))
    else:
        answers.write(_line({"shape": pixels.shape, "dtype": pixels.dtype.str, "photometric": photometric}))
        answers.write(pixels.data)
    answers.flush()


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _decode(path: str, pixel_bytes: int) -> tuple[np.ndarray[Any, np.dtype[Any]], str]:
    """Pixels as [frames, rows, columns] or [frames, rows, columns, 3], and their photometric interpretation."""
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    ds = dcmread(path)
    if not any(keyword in ds for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise NoPixels
    frames = max(int(ds.get("NumberOfFrames") or 1), 1)
    samples, bits = int(ds.get("SamplesPerPixel", 1)), int(ds.get("BitsAllocated", 8))
    if frames * int(ds.Rows) * int(ds.Columns) * samples * max(bits, 8) // 8 > pixel_bytes:
        raise MemoryError
    syntax = str(ds.file_meta.TransferSyntaxUID)
    if syntax == DEFLATED_FRAMES:
        pixels = _deflated_frames(ds, frames)
    else:
        if syntax == JPEG_EXTENDED:
            _mend_spectral_selection(ds, frames)
        pixels = pixel_array(ds)
    photometric = str(ds.PhotometricInterpretation)
    if samples == 3:
        photometric = "RGB"  # pydicom converts YBR; palettes have one sample
    shape = (frames, int(ds.Rows), int(ds.Columns)) + ((samples,) if samples > 1 else ())
    pixels = np.ascontiguousarray(pixels.reshape(shape))
    if pixels.nbytes > pixel_bytes:
        raise MemoryError
    return pixels, photometric


def _mend_spectral_selection(ds: Dataset, frames: int) -> None:
    """Correct scan headers that name no coefficients (Ss = Se = 0), as one old encoder wrote them.

    A sequential scan always codes coefficients 0 to 63 (ITU-T T.81 table B.3), so decoders may refuse the rest.
    """
    from pydicom.encaps import encapsulate, generate_frames

    mended = []
    for frame in generate_frames(ds.PixelData, number_of_frames=frames):
        scan = bytearray(frame)
        start = scan.find(b"\xff\xda")
        if 0 <= start < len(scan) - 6:
            selection = start + 5 + 2 * scan[start + 4]
            if scan[selection : selection + 2] == b"\0\0":
                scan[selection + 1] = 63
        mended.append(bytes(scan))
    ds.PixelData = encapsulate(mended)


def _deflated_frames(ds: Dataset, frames: int) -> np.ndarray[Any, np.dtype[Any]]:
    from pydicom.encaps import generate_frames

    bits = int(ds.BitsAllocated)
    count = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel)
    size = (count * bits + 7) // 8
    planes = []
    for frame in generate_frames(ds.PixelData, number_of_frames=frames):
        raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size)
        if bits == 1:
            planes.append(np.unpackbits(np.frombuffer(raw, np.uint8), count=count, bitorder="little"))
        else:
            kind = "i" if ds.PixelRepresentation else "u"
            planes.append(np.frombuffer(raw, f"<{kind}{bits // 8}", count=count))
    return np.stack(planes)


if __name__ == "__main__":
    main(sys.argv[1:])
