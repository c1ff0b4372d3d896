"""dgatesop.lst: what this server accepts (Conquest's manual, section 7.5).

Lines of `name value kind [more]`. Kind `sop` names a SOP class, `transfer` a transfer syntax,
`RemoteAE` a calling and `LocalAE` a called AE title that may come in; without such lines any may.
`application` lines are read and ignored: there is one application context.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from pyserver.config.ini import split_lines
from pyserver.errors import ConfigError

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
UID_LENGTH_MAX = 64

# Verification, query and retrieve are services, not classes of stored objects.
SERVICE_PREFIXES = ("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.")

# What is left out of a C-GET first: classes that hold no patient's images or reports, and those
# that few systems send.
UNCOMMON = (
    "RETIRED",
    "Template",
    "Inventory",
    "ColorPalette",
    "HangingProtocol",
    "Protocol",
    "Approval",
    "Delivery",
    "RadiationRecord",
    "RadiationSalvage",
    "RadiationSet",
    "CArmPhoton",
    "Tomotherapeutic",
    "RoboticArm",
    "RTPatientPosition",
    "RTSegmentAnnotation",
    "RTTreatmentPreparation",
    "Refraction",
    "Lensometry",
    "Keratometry",
    "Autorefraction",
    "VisualAcuity",
    "Spectacle",
    "IntraocularLens",
    "OphthalmicAxial",
    "EncapsulatedMTL",
    "EncapsulatedOBJ",
    "Dermoscopic",
    "Tractography",
    "Confocal",
    "Bulk",
    "DICOS",
    "EddyCurrent",
    "Multichannel",
    "Electroencephalogram",
    "Electromyogram",
    "Electrooculogram",
    "BodyPosition",
    "WaveformPresentation",
    "WaveformAcquisition",
    "WaveformAnnotation",
    "SurfaceScan",
    "HeightMap",
    "Photoacoustic",
    "SegmentedVolume",
    "MultipleVolume",
    "VariableModalityLUT",
    "PlanarMPR",
    "CornealTopography",
    "OphthalmicThickness",
    "StructuredDisplay",
    "ImagingAgentAdministration",
    "ContentAssessment",
)

KINDS = ("application", "sop", "transfer", "remoteae", "localae")


@dataclass(frozen=True)
class SopList:
    """A parsed dgatesop.lst, each list in file order and without repetitions."""

    path: Path
    sop_classes: tuple[str, ...] = ()
    transfer_syntaxes: tuple[str, ...] = ()
    remote_aes: tuple[str, ...] = ()
    local_aes: tuple[str, ...] = ()


def parse_sop_list(text: str, path: Path) -> SopList:
    """Parse the text of a dgatesop.lst; a line that cannot work raises ConfigError."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    for number, raw in enumerate(split_lines(text), start=1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise ConfigError(
                "a line needs name, UID or AE title, and kind", file=path, line=number
            )
        value, kind = words[1], words[2].casefold()
        if kind not in found:
            raise ConfigError(
                f"{words[2]!r} is no kind of line",
                file=path,
                line=number,
                hint="sop, transfer, RemoteAE, LocalAE or application",
            )
        is_uid = kind not in ("remoteae", "localae")
        if is_uid and not (_UID.fullmatch(value) and len(value) <= UID_LENGTH_MAX):
            raise ConfigError(f"{value!r} is not a UID", file=path, line=number)
        found[kind][value] = None
    return SopList(
        path,
        sop_classes=tuple(found["sop"]),
        transfer_syntaxes=tuple(found["transfer"]),
        remote_aes=tuple(found["remoteae"]),
        local_aes=tuple(found["localae"]),
    )


@cache
def _common() -> tuple[str, ...]:
    """Storage classes that are worth a presentation context, out of the shipped list."""
    text = files("pyserver.config").joinpath("data/dgatesop.lst").read_text(encoding="ascii")
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#") or words[2] != "sop":
            continue
        name, uid = words[:2]
        if "Storage" in name and not any(word in name for word in UNCOMMON):
            found.append(uid)
    return tuple(found)


def retrieval_classes(sops: SopList) -> list[str]:
    """Accepted storage classes, the most likely ones first: not all fit one association."""
    accepted = dict.fromkeys(
        uid for uid in sops.sop_classes if not uid.startswith(SERVICE_PREFIXES)
    )
    common = [uid for uid in _common() if uid in accepted]
    return list(dict.fromkeys([*common, *accepted]))
