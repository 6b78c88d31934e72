"""The patient: the build of one synthetic person, and that person's chest on a given day."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from radir_pacs.types import F32

from .canvas import Axes
from .findings import PhantomFinding

CAVITY_POWER = np.float32(2.3)  # the rib cage is a little squarer than an ellipse


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Measures of one synthetic person; lengths in mm, ``sex`` as in DICOM (M, F)."""

    sex: str
    age_years: int
    scale: float  # overall size, 1 is an average man
    fat_mm: float  # skin to muscle
    half_width_mm: float  # inside the rib cage, at its widest
    half_depth_mm: float
    apex_mm: float  # top of the lungs above the carina
    right_dome_mm: float  # top of the right diaphragm, negative
    dome_step_mm: float  # how much lower the left dome stands
    heart_scale: float
    aorta_radius_mm: float
    unfolding: float  # of the aorta, 0 to 1
    breast_mm: float
    kyphosis_mm: float
    scoliosis_mm: float
    rib_drop_mm: float  # how far a rib falls from back to front
    bone_density: float
    seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Patient:
        female = rng.random() < 0.5
        age = int(np.clip(rng.normal(61, 17), 19, 95))
        scale = float(np.clip(rng.normal(0.93 if female else 1.0, 0.035), 0.84, 1.08))
        fat = float(np.clip(rng.gamma(4.0, 3.6), 5, 34))
        old = max(0.0, (age - 45) / 50)
        return cls(
            sex="F" if female else "M",
            age_years=age,
            scale=scale,
            fat_mm=fat,
            half_width_mm=float(rng.normal(134, 5)) * scale,
            half_depth_mm=float(rng.normal(86, 5)) * scale + 6 * old,
            apex_mm=float(rng.normal(98, 5)) * scale,
            right_dome_mm=float(rng.normal(-108, 9)) * scale + 0.5 * (fat - 14),
            dome_step_mm=float(np.clip(rng.normal(11, 4), 2, 20)),
            heart_scale=float(np.clip(rng.normal(0.97, 0.05), 0.86, 1.07)) * scale,
            aorta_radius_mm=float(rng.normal(12.5, 0.8)) * scale + 2.2 * old,
            unfolding=float(np.clip(rng.normal(0.9 * old, 0.15), 0, 1)),
            breast_mm=float(np.clip(rng.normal(34, 9), 16, 60)) + 0.4 * (fat - 14) if female else 0.0,
            kyphosis_mm=float(rng.normal(8, 3)) + 9 * old,
            scoliosis_mm=float(rng.normal(0, 2.5)),
            rib_drop_mm=float(rng.normal(92, 9)) * scale,
            bone_density=float(np.clip(rng.normal(1.05, 0.08) - 0.3 * old * (1.3 if female else 0.8), 0.55, 1.2)),
            seed=int(rng.integers(2**62)),
        )


@dataclass(frozen=True, kw_only=True)
class Chest:
    """A patient on one day: the patient's build with that day's findings applied to the anatomy."""

    patient: Patient
    findings: tuple[PhantomFinding, ...]
    right_dome_mm: float
    left_dome_mm: float
    dome_flatness: float  # 1 normal, less is flatter
    heart_scale: float
    arch_radius_mm: float
    ascending_radius_mm: float
    descending_radius_mm: float
    lung_hu: float
    vessel_scale: float
    seed: int

    @classmethod
    def of(cls, patient: Patient, findings: tuple[PhantomFinding, ...]) -> Chest:
        chest = cls(
            patient=patient,
            findings=findings,
            right_dome_mm=patient.right_dome_mm,
            left_dome_mm=patient.right_dome_mm - patient.dome_step_mm,
            dome_flatness=1.0,
            heart_scale=patient.heart_scale,
            arch_radius_mm=patient.aorta_radius_mm,
            ascending_radius_mm=patient.aorta_radius_mm * 1.12,
            descending_radius_mm=patient.aorta_radius_mm * 0.9,
            lung_hu=-862.0 - 0.3 * (patient.age_years - 60),  # lungs grow emptier with age
            vessel_scale=1.0,
            seed=patient.seed,
        )
        for finding in findings:
            chest = _changed_by(chest, finding)
        return chest

    def cavity(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half width, half depth and centre (y) of the inside of the rib cage at heights ``z``."""
        p = self.patient
        low, top = -120.0 * p.scale, p.apex_mm + 20
        u = np.clip((z - low) / (top - low), 0, 0.9995)
        below = np.clip((low - z) / 130, 0, 1)
        width = p.half_width_mm * np.sqrt(1 - u**2.7) * (1 - 0.05 * below**2)
        depth = p.half_depth_mm * np.sqrt(1 - u**3.1) * (1 - 0.04 * below)
        centre = 4 + (p.kyphosis_mm * 0.5 + 14) * u**2 - 4 * below
        return width.astype(np.float32), depth.astype(np.float32), centre.astype(np.float32)

    def cavity_power(self, axes: Axes) -> F32:
        """1 at the inside of the rib cage, less within, [z, y, x]: the ``CAVITY_POWER``-th power of the distance from
        the middle over the distance to the wall. Callers that need it raise it to 1 / CAVITY_POWER."""
        width, depth, centre = self.cavity(axes.z)
        across = (np.abs(axes.x)[None, :] / width[:, None]) ** CAVITY_POWER
        along = (np.abs(axes.y[None, :] - centre[:, None]) / depth[:, None]) ** CAVITY_POWER
        power: F32 = across[:, None, :] + along[:, :, None]
        return power

    def spine(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the centres of the vertebral bodies at heights ``z``."""
        p = self.patient
        x = p.scoliosis_mm * np.sin((z + 40) / 70)
        y = 4 + p.half_depth_mm * 0.62 + p.kyphosis_mm * (np.cos((z + 30) / 105) - 0.6)
        return x, y

    def dome(self, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
        """Height of the diaphragm under (x, y) on one side (-1 right, +1 left)."""
        p = self.patient
        top = self.right_dome_mm if side < 0 else self.left_dome_mm
        centre = 0.46 * p.half_width_mm
        across = (side * x - centre) / (0.54 * p.half_width_mm)
        fall_x = np.where(across > 0, 46.0, 16.0) * np.abs(across) ** 2.3
        along = (y + 14) / (p.half_depth_mm + 8)
        fall_y = np.where(along > 0, 66.0, 30.0) * along**2
        return np.asarray(top - self.dome_flatness * (fall_x + fall_y) * p.scale)


def _changed_by(chest: Chest, finding: PhantomFinding) -> Chest:
    """The chest with one finding's effect on the shape of organs."""
    s = finding.severity
    match finding.concept:
        case "cardiomegaly":
            return replace(chest, heart_scale=chest.heart_scale * (1.1 + 0.08 * s))
        case "oedema":
            return replace(chest, vessel_scale=1.1 + 0.12 * s)
        case "emphysema":
            drop = 7.0 * s
            return replace(
                chest,
                right_dome_mm=chest.right_dome_mm - drop,
                left_dome_mm=chest.left_dome_mm - drop,
                dome_flatness=1 - 0.2 * s,
                lung_hu=chest.lung_hu - 22 * s,
                vessel_scale=1 - 0.1 * s,
            )
        case "atelectasis" if finding.region.endswith("lower_lobe"):
            rise = (4.0, 12.0, 26.0)[s - 1]
            if finding.side < 0:
                return replace(chest, right_dome_mm=chest.right_dome_mm + rise)
            return replace(chest, left_dome_mm=chest.left_dome_mm + rise)
        case "elevated_hemidiaphragm":
            rise = 14.0 + 14 * s
            if finding.side < 0:
                return replace(chest, right_dome_mm=chest.right_dome_mm + rise)
            return replace(chest, left_dome_mm=chest.left_dome_mm + rise)
        case "aortic_dilatation":
            if finding.region == "aortic_arch":
                return replace(chest, arch_radius_mm=chest.arch_radius_mm * (1.15 + 0.18 * s))
            return replace(
                chest,
                ascending_radius_mm=chest.ascending_radius_mm * (1.1 + 0.15 * s),
                descending_radius_mm=chest.descending_radius_mm * (1.1 + 0.2 * s),
            )
        case _:
            return chest
