"""The child process that touches untrusted pixels: one request in, one answer out, for as long as it lives.

Started by ``pixels.PixelDecoder`` as ``python -m radir_pacs.dicom.decode_child REQUESTS ANSWERS MEMORY CPU PIXELS``:
two file descriptors and three limits. A request is a JSON line, ``{"path": …, "coloured": false}``. An answer is a JSON
line, ``{"error": reason}`` (with a ``code`` if memory ran out) or ``{"shape": […], "dtype": "<u2", "photometric": …}``
followed by the raw pixel bytes. Nothing is pickled, so a child taken over by a hostile file can do no more than answer
with nonsense pixels.
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

from radir_pacs.dicom.codestream import read_codestream
from radir_pacs.dicom.palette import through_palette
from radir_pacs.dicom.stored_bits import stored_values
from radir_pacs.dicom.transfer_syntaxes import DECODABLE, DEFLATED_FRAMES, JPEG_EXTENDED, NATIVE, RLE
from radir_pacs.reasons import ReasonCode

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = np.ndarray[Any, np.dtype[Any]]


class Refused(Exception):
    """The pixels are not decoded, for a reason that may leave the process. Raised before any codec has seen them."""


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes its end."""
    requests_fd, answers_fd, memory_bytes, cpu_s, pixel_bytes = (int(a) for a in arguments)
    for name in ("requests", "tqdm"):  # pydicom would load them to fetch its examples: a fifth of the start
        sys.modules[name] = None  # type: ignore[assignment]  # not to be imported (Python's reference, 5.3.1)
    import pydicom.pixels

    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    with os.fdopen(requests_fd, "rb") as requests, os.fdopen(answers_fd, "wb") as answers:
        for line in requests:
            _limit_cpu(cpu_s)
            request = json.loads(line)
            _answer(answers, str(request["path"]), pixel_bytes, coloured=bool(request["coloured"]))


def _limit(which: int, value: int) -> None:
    # Some systems refuse some limits (macOS: RLIMIT_AS); the wall clock and the other limits still apply there.
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


def _answer(answers: IO[bytes], path: str, pixel_bytes: int, *, coloured: bool) -> None:
    try:
        pixels, photometric = _decode(path, pixel_bytes, coloured=coloured)
    except Refused as reason:
        answers.write(_line({"error": str(reason), "untouched": True}))
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


def _decode(path: str, pixel_bytes: int, *, coloured: bool) -> tuple[Pixels, str]:
    """Pixels as [frames, rows, columns] or [frames, rows, columns, 3], and their photometric interpretation.

    coloured: PALETTE COLOR comes as RGB, through its tables.
    """
    from pydicom import dcmread

    ds = dcmread(path)
    if not any(keyword in ds for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Refused("the object has no pixel data")
    frames = max(int(ds.get("NumberOfFrames") or 1), 1)
    samples, bits = int(ds.get("SamplesPerPixel", 1)), int(ds.get("BitsAllocated", 8))
    if frames * int(ds.Rows) * int(ds.Columns) * samples * max(bits, 8) // 8 > pixel_bytes:
        raise MemoryError
    syntax = str(ds.file_meta.TransferSyntaxUID)
    if syntax not in DECODABLE:
        raise Refused(f"no codec here reads the transfer syntax {syntax}"[:120])
    coded_bits = bits if syntax in NATIVE | {RLE, DEFLATED_FRAMES} else _check_codestreams(ds, frames, samples)
    pixels = _stored(ds, syntax, frames, coded_bits)
    photometric = str(ds.PhotometricInterpretation)
    if samples == 3:
        photometric = "RGB"  # pydicom converts YBR; palettes have one sample
    shape = (frames, int(ds.Rows), int(ds.Columns)) + ((samples,) if samples > 1 else ())
    pixels = pixels.reshape(shape)
    if coloured and photometric == "PALETTE COLOR":
        if pixels.size * len("RGB") > pixel_bytes:
            raise MemoryError
        pixels, photometric = through_palette(pixels, ds), "RGB"
    pixels = np.ascontiguousarray(pixels)
    if pixels.nbytes > pixel_bytes:
        raise MemoryError
    return pixels, photometric


def _check_codestreams(ds: Dataset, frames: int, samples: int) -> int:
    """The bits of a sample as the frames' own headers say. Raises Refused where they are larger than the data set says.

    A decoder allocates by the frame's header: 2 KB can ask for 65,500 x 65,500.
    """
    from pydicom.encaps import generate_frames

    bits = 0
    for frame in generate_frames(ds.PixelData, number_of_frames=frames):
        coded = read_codestream(frame)
        if coded is None:
            continue  # what is not a picture will fail to decode
        if (coded.rows, coded.columns) != (int(ds.Rows), int(ds.Columns)) or coded.samples > samples:
            raise Refused(
                f"a compressed frame is {coded.columns} x {coded.rows} of {coded.samples} samples,"
                f" the header says {int(ds.Columns)} x {int(ds.Rows)} of {samples}"
            )
        bits = max(bits, coded.bits)
    return bits


def _stored(ds: Dataset, syntax: str, frames: int, coded_bits: int) -> Pixels:
    """Stored values. Where High Bit is not Bits Stored - 1, whole cells are decoded and the values extracted."""
    from pydicom.pixels.utils import pixel_array

    if syntax == DEFLATED_FRAMES:
        return _deflated_frames(ds, frames)
    if syntax == JPEG_EXTENDED:
        _mend_spectral_selection(ds, frames)
    allocated, stored = int(ds.get("BitsAllocated", 8)), int(ds.get("BitsStored", 0) or 0)
    high = int(ds.get("HighBit", stored - 1) or 0)
    usual = high == stored - 1 or not 0 < stored < min(coded_bits, allocated) or allocated not in (8, 16, 32)
    if usual or "PixelData" not in ds:
        return pixel_array(ds)
    ds.BitsStored, ds.HighBit = allocated, allocated - 1
    return stored_values(pixel_array(ds), bits_stored=stored, high_bit=high)


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


def _deflated_frames(ds: Dataset, frames: int) -> Pixels:
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
