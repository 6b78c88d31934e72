"""Human MeSH codes of Open-i ("Opacity/lung/base/left") mapped to our concepts and to regions with their side."""

from __future__ import annotations

from dataclasses import dataclass

from radir_pacs import anatomy
from radir_pacs.reports.findings import Laterality
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.types import LEFT, RIGHT

_SIDES = {"left": Laterality.LEFT, "right": Laterality.RIGHT, "bilateral": Laterality.BILATERAL}

# Place words of a code, the more specific ones last; a code's place is the last of these it names.
_PLACES = {
    "thorax": ("chest", "right_hemithorax", "left_hemithorax", "chest_wall"),
    "abdomen": ("abdomen", "upper_abdomen", "subdiaphragmatic_space"),
    "neck": ("neck",),
    "blood vessels": ("vessels", "pulmonary_vasculature"),
    "lung": ("lungs",),
    "heart": ("heart",),
    "mediastinum": ("mediastinum",),
    "pleura": ("pleura",),
    "spine": ("spine",),
    "thoracic vertebrae": ("thoracic_spine", "vertebrae"),
    "lumbar vertebrae": ("lumbar_spine",),
    "cervical vertebrae": ("cervical_spine",),
    "ribs": ("ribs",),
    "clavicle": ("clavicles",),
    "sternum": ("sternum",),
    "shoulder": ("shoulders",),
    "humerus": ("humeri",),
    "breast": ("breasts",),
    "diaphragm": ("diaphragm",),
    "aorta": ("aorta", "thoracic_aorta", "aortic_arch"),
    "aorta, thoracic": ("thoracic_aorta", "aortic_arch", "aorta", "descending_aorta", "ascending_aorta"),
    "coronary vessels": ("coronary_arteries",),
    "aortic valve": ("aortic_valve",),
    "mitral valve": ("mitral_valve",),
    "pulmonary artery": ("pulmonary_artery",),
    "bronchi": ("bronchi",),
    "trachea": ("trachea",),
    "trachea, carina": ("trachea", "carina"),
    "base": ("lower_zones",),
    "apex": ("lung_apices",),
    "upper lobe": ("upper_lobes", "upper_zones"),
    "middle lobe": ("right_middle_lobe", "mid_zones"),
    "lower lobe": ("lower_lobes", "lower_zones"),
    "lingula": ("lingula", "left_mid_zone"),
    "retrocardiac": ("retrocardiac_region",),
    "paratracheal": ("paratracheal_region", "paratracheal_lymph_nodes"),
    "hilum": ("hila", "perihilar_regions", "hilar_lymph_nodes"),
    "lymph nodes": ("lymph_nodes", "hilar_lymph_nodes", "mediastinal_lymph_nodes"),
    "costophrenic angle": ("costophrenic_angles",),
    "sulcus": ("costophrenic_angles",),
    "cardiophrenic angle": ("cardiophrenic_angles",),
}
_COARSE = {"abdomen", "aorta", "aorta, thoracic", "neck", "pleura"}  # the codes have no words for regions below these
_ORDER = {word: rank for rank, word in enumerate(_PLACES)}

# Heads of codes and the concepts they mean; other heads are not compared.
_HEADS = {
    "Airspace Disease": ("airspace_disease",),
    "Aorta": ("aortic_contour",),
    "Aorta, Thoracic": ("aortic_contour",),
    "Atherosclerosis": ("atherosclerosis",),
    "Calcified Granuloma": ("granuloma",),
    "Calcinosis": ("calcification",),
    "Catheters, Indwelling": ("catheter",),
    "Cicatrix": ("scar",),
    "Consolidation": ("consolidation",),
    "Costophrenic Angle": ("costophrenic_blunting",),
    "Deformity": ("bone_deformity",),
    "Density": ("density",),
    "Diaphragm": ("diaphragm_abnormality",),
    "Fractures, Bone": ("fracture",),
    "Granuloma": ("granuloma",),
    "Granulomatous Disease": ("granuloma",),
    "Infiltrate": ("infiltrate",),
    "Kyphosis": ("kyphosis",),
    "Lucency": ("lucency",),
    "Markings": ("markings",),
    "Mass": ("mass",),
    "Nodule": ("nodule",),
    "Opacity": ("opacity",),
    "Osteophyte": ("osteophyte",),
    "Pleural Effusion": ("pleural_effusion",),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
    "Pulmonary Atelectasis": ("atelectasis",),
    "Pulmonary Edema": ("edema",),
    "Pulmonary Emphysema": ("emphysema",),
    "Pulmonary Fibrosis": ("fibrosis",),
    "Scoliosis": ("scoliosis",),
    "Spine": ("degenerative_spine",),
    "Spondylosis": ("spondylosis",),
    "Stents": ("stent",),
    "Surgical Instruments": ("surgical_clip",),
    "Thickening": ("pleural_thickening",),
    "Thoracic Vertebrae": ("degenerative_spine",),
}
_HEAD_PLACES = {
    "Aorta": "aorta",
    "Aorta, Thoracic": "aorta, thoracic",
    "Costophrenic Angle": "costophrenic angle",
    "Diaphragm": "diaphragm",
    "Spine": "spine",
    "Thoracic Vertebrae": "thoracic vertebrae",
    "Pleural Effusion": "pleura",
    "Pneumothorax": "pleura",
    "Spondylosis": "spine",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A code in our terms. ``places``: per place that it names (two for "bilateral"), the right region keys."""

    head: str
    concepts: frozenset[str]
    side: Laterality | None
    places: tuple[frozenset[str], ...]
    qualifiers: frozenset[str]


def read_code(path: str, lexicon: Lexicon) -> Code | None:
    """The code in our terms; None for a head that we do not compare."""
    head, *words = [word.strip() for word in path.split("/")]
    if head not in _HEADS:
        return None
    own = set(_HEADS[head])
    finer = {key for keys in _HEADS.values() for key in keys if key not in own and lexicon.ancestors[key] & own}
    concepts = {key for key, above in lexicon.ancestors.items() if above & own and not above & finer}
    named = [word for word in words if word in _PLACES] + ([_HEAD_PLACES[head]] if head in _HEAD_PLACES else [])
    side = next((_SIDES[word] for word in words if word in _SIDES), None)
    places: tuple[frozenset[str], ...] = ()
    if named:
        deepest = max(named, key=_ORDER.__getitem__)
        regions = _PLACES[deepest]
        if deepest in _COARSE:
            regions = tuple(
                key for region in regions for key in (region, *(r.key for r in anatomy.descendants(region)))
            )
        elif deepest == "lymph nodes":  # "hilum/lymph nodes": nodes, or the hilum that they lie in
            regions = tuple(dict.fromkeys(region for word in named for region in _PLACES[word] if region != "lungs"))
        sides = (Laterality.LEFT, Laterality.RIGHT) if side is Laterality.BILATERAL else (side,)
        places = tuple(dict.fromkeys(frozenset(_of_side(regions, part, lexicon)) for part in sides))
    return Code(
        head=head,
        concepts=frozenset(concepts),
        side=side,
        places=places,
        qualifiers=frozenset(word for word in words if word not in _PLACES and word not in _SIDES),
    )


def _of_side(regions: tuple[str, ...], side: Laterality | None, lexicon: Lexicon) -> list[str]:
    if side is None:  # the coder named no side: either is right
        sided = (
            lexicon.sided.get((region, part)) for part in (Laterality.LEFT, Laterality.RIGHT) for region in regions
        )
        return [*regions, *(key for key in sided if key)]
    found = [lexicon.sided.get((region, side), region) for region in regions]
    wrong = RIGHT if side is Laterality.LEFT else LEFT
    return list(dict.fromkeys(region for region in found if anatomy.region(region).laterality != wrong))
