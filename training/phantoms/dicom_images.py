"""Radiographs as DX Image Storage - For Presentation, volumes as CT Image Storage (PS3.3 A.26 and A.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from radir_pacs.pictures.basic_text_sr import code
from radir_pacs.types import F32

from .dicom_base import Identity, new_object, region_sequence, save
from .images import Images
from .slice_writer import SliceWriter

_CT_INTERCEPT = -1024


def write_radiographs(identity: Identity, images: Images, folder: Path) -> list[Path]:
    """frontal.dcm and lateral.dcm."""
    written = []
    for number, (name, picture) in enumerate((("frontal", images.frontal), ("lateral", images.lateral)), 1):
        ds = _radiograph(identity, picture[0], images.radiograph_spacing_mm[1], name, number)
        save(ds, folder / f"{name}.dcm")
        written.append(folder / f"{name}.dcm")
    return written


def _radiograph(identity: Identity, picture: F32, pixel_mm: float, name: str, number: int) -> FileDataset:
    ds = new_object(
        identity, DigitalXRayImageStorageForPresentation, identity.uid("instance", name), "DX", name, number
    )
    frontal = name == "frontal"
    ds.SeriesDescription = "PA" if frontal else "Lateral"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.BodyPartExamined, ds.ViewPosition = "CHEST", "PA" if frontal else "LL"
    ds.ViewCodeSequence = Sequence(
        [code("399348003", "SCT", "postero-anterior") if frontal else code("399173006", "SCT", "left lateral")]
    )
    ds.AnatomicRegionSequence, ds.ImageLaterality = region_sequence(), "U"
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.DerivationDescription = "Projected from a computed phantom"
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, ds.StudyTime
    ds.AcquisitionContextSequence = Sequence([])
    ds.PatientOrientation = ["L", "F"] if frontal else ["P", "F"]
    ds.KVP = 120
    ds.DetectorType, ds.DetectorID = "DIRECT", "PHANTOM"
    ds.DetectorConfiguration, ds.DetectorDescription = "AREA", "Computed projection"
    ds.ImagerPixelSpacing = [pixel_mm, pixel_mm]
    ds.PositionerType = "NONE"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.LossyImageCompression, ds.BurnedInAnnotation = "00", "NO"
    _pixels(ds, np.round(picture * 4095))
    return ds


def write_ct(identity: Identity, images: Images, folder: Path) -> list[Path]:
    """ct_0001.dcm … from the feet up: axial slices in HU, the patient lying on the back, head first."""
    x0, y0, z0 = images.ct_origin_mm
    thickness, pixel_mm, _ = images.ct_spacing_mm
    ds = new_object(identity, CTImageStorage, identity.uid("instance", "ct", "0"), "CT", "ct", 1)
    ds.SeriesDescription, ds.BodyPartExamined = "Chest, axial", "CHEST"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber, ds.AcquisitionDate, ds.AcquisitionTime = 1, ds.StudyDate, ds.StudyTime
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = identity.uid("frame", "ct"), ""
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = [pixel_mm, pixel_mm], thickness, thickness
    ds.KVP, ds.ConvolutionKernel = 120, "STANDARD"
    ds.AnatomicRegionSequence = region_sequence()
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _CT_INTERCEPT, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
    ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
    ds.LossyImageCompression, ds.BurnedInAnnotation = "00", "NO"
    stored = np.clip(np.round(images.ct) - _CT_INTERCEPT, 0, 4095)
    _pixels(ds, stored[0])
    writer = SliceWriter(ds)
    written = []
    for number, plane in enumerate(stored, 1):
        z = round(z0 + (number - 1) * thickness, 4)
        path = folder / f"ct_{number:04d}.dcm"
        path.write_bytes(
            writer.encode(
                sop_uid=identity.uid("instance", "ct", str(number)),
                number=number,
                position_mm=(round(x0, 4), round(y0, 4), z),
                pixels=plane.astype("<u2").tobytes(),
            )
        )
        written.append(path)
    return written


def _pixels(ds: FileDataset, stored: F32) -> None:
    """The image pixel module with 12 bits stored."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = stored.astype("<u2").tobytes()
