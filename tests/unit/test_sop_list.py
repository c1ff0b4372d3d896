"""dgatesop.lst: its kinds of lines, and that the shipped one is complete."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import sop_class

from pyserver.config.defaults import default_text
from pyserver.config.sop_list import (
    parse_sop_list,
    retrieval_classes,
)
from pyserver.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PATH = Path("dgatesop.lst")

# An association has 128 presentation contexts, and a C-GET needs one for itself.
COMMON_MAX = 126


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kinds_of_lines() -> None:
    sops = parse_sop_list(
        "#\n#None none RemoteAE\nDICOM 1.2.840.10008.3.1.1.1 application\n"
        "Verification\t1.2.840.10008.1.1\tsop\nVerification 1.2.840.10008.1.1 SOP\n"
        "Implicit 1.2.840.10008.1.2 transfer LittleEndianExplicit\n"
        "Console CONSOLE1 RemoteAE\nMe ARCHIVE LocalAE\n",
        PATH,
    )
    assert sops.sop_classes == ("1.2.840.10008.1.1",)
    assert sops.transfer_syntaxes == ("1.2.840.10008.1.2",)
    assert sops.remote_aes == ("CONSOLE1",)
    assert sops.local_aes == ("ARCHIVE",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Verification 1.2.840", "needs name"),
        ("Verification 1.2.840 sopp", "no kind"),
        ("Verification 1.2..840 sop", "not a UID"),
        ("Verification 1.2.x sop", "not a UID"),
        (f"Verification {'1.' * 32}1 sop", "not a UID"),
    ],
)
def test_lines_that_cannot_work(line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_sop_list(f"# one\n{line}\n", PATH)
    assert caught.value.line == 2


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse_sop_list(text, PATH)
    except ConfigError as error:
        assert error.line > 0


def test_the_shipped_list_has_every_storage_class() -> None:
    sops = parse_sop_list(default_text("dgatesop.lst"), PATH)
    assert set(sop_class._STORAGE_CLASSES.values()) <= set(sops.sop_classes)
    assert len(sops.sop_classes) > 200
    # Services that the server has; storage commitment and media directories are not storage.
    assert "1.2.840.10008.5.1.4.1.2.2.1" in sops.sop_classes
    assert "1.2.840.10008.1.3.10" not in sops.sop_classes
    assert "1.2.840.10008.1.20.1" not in sops.sop_classes
    # GE's private MR class stays off, as in Conquest.
    assert "1.2.840.113619.4.2" not in sops.sop_classes
    assert sops.transfer_syntaxes[:2] == ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
    assert sops.remote_aes == sops.local_aes == ()


def test_the_shipped_list_is_what_its_script_writes() -> None:
    assert default_text("dgatesop.lst") == load_script("write_sop_list").write()


def test_what_a_get_offers_first_fits_one_association() -> None:
    sops = parse_sop_list(default_text("dgatesop.lst"), PATH)
    everything = retrieval_classes(sops)
    assert len(set(everything)) == len(everything) > 200
    assert "1.2.840.10008.5.1.4.1.2.2.1" not in everything
    offered = everything[:COMMON_MAX]
    for keyword in (
        "CTImageStorage",
        "MRImageStorage",
        "EnhancedMRImageStorage",
        "SecondaryCaptureImageStorage",
        "UltrasoundMultiFrameImageStorage",
        "PositronEmissionTomographyImageStorage",
        "SegmentationStorage",
        "EncapsulatedPDFStorage",
        "RTPlanStorage",
        "RTIonPlanStorage",
        "ComprehensiveSRStorage",
        "VLWholeSlideMicroscopyImageStorage",
        "VLMicroscopicImageStorage",
        "TwelveLeadECGWaveformStorage",
    ):
        assert getattr(sop_class, keyword) in offered


def test_a_get_offers_only_what_is_accepted() -> None:
    sops = parse_sop_list("CT 1.2.840.10008.5.1.4.1.1.2 sop\nX 1.2.3 sop\n", PATH)
    assert retrieval_classes(sops) == ["1.2.840.10008.5.1.4.1.1.2", "1.2.3"]
