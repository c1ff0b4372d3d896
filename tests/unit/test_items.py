"""The item table: complete, consistent, and found by any spelling Conquest takes."""

import re

import pytest

from pyserver.config.defaults import default_text
from pyserver.config.items import (
    Item,
    Kind,
    State,
    all_items,
    find_item,
    item_named,
    split_number,
)

# Items that a dicom.ini of Conquest 1.5 has, and others its manual describes.
OF_CONQUEST = [
    "MicroPACS",
    "MyACRNema",
    "TCPPort",
    "SQLHost",
    "SQLServer",
    "Username",
    "Password",
    "PostGres",
    "MySQL",
    "SQLite",
    "UseEscapeStringConstants",
    "DoubleBackSlashToDB",
    "ImportExportDragAndDrop",
    "ZipTime",
    "UIDPrefix",
    "EnableComputedFields",
    "FileNameSyntax",
    "DroppedFileCompression",
    "IncomingCompression",
    "ArchiveCompression",
    "PACSName",
    "OperatorConsole",
    "DebugLevel",
    "MAGDeviceFullThreshold",
    "MAGDevices",
    "MAGDevice0",
    "MAGDevice1",
    "SQLiteStartup",
    "DelayIncomingFileOpen",
    "UTF8ToDB",
    "UTF8FromDB",
    "MAGDeviceThreshold",
    "IgnoreMAGDeviceThreshold",
    "NightlyCleanThreshold",
    "NightlyMoveThreshold",
    "NightlyMoveTarget",
    "MIRRORDevices",
    "MIRRORDevice0",
    "CACHEDevices",
    "CACHEDevice0",
    "JUKEBOXDevices",
    "JUKEBOXDevice0",
    "KeepAlive",
    "LargeFileSizeKB",
    "ExternalViewer",
    "DemoViewer",
    "DemoCopy",
    "HeaderBmp",
    "FooterBmp",
    "BackgroundBmp",
    "LadlePort",
    "WEBReadOnly",
    "TempDir",
    "TruncateFieldNames",
    "MaxFieldLength",
    "MaxFileNameLength",
    "FixPhilips",
    "FixKodak",
    "EnableReadAheadThread",
    "Prefetcher",
    "LRUSort",
    "AllowTruncate",
    "IgnoreOutOfMemoryErrors",
    "NoDICOMCheck",
    "StorageFailedErrorCode",
    "PatientQuerySortOrder",
    "StudyQuerySortOrder",
    "SeriesQuerySortOrder",
    "ImageQuerySortOrder",
    "PackDBF",
    "IndexDBF",
    "LongQueryDBF",
    "WorkListMode",
    "WorkListReturnsISO_IR",
    "WorkListReturnsISO_IR_100",
    "QueriesReturnISO_IR",
    "AllowEmptyPatientID",
    "WatchFolder",
    "SendUpperCaseAE",
    "VirtualServerFor0",
    "VirtualServerFor9",
    "VirtualServerPerSeries0",
    "CacheVirtualData",
    "OverlapVirtualGet",
    "TCPIPTimeOut",
    "FailHoldOff",
    "RetryDelay",
    "RetryForwardFailed",
    "RetryForwardRemoteDICOMError",
    "QueueSize",
    "MaximumExportRetries",
    "MaximumDelayedFetchForwardRetries",
    "DelayedForwarderThreads",
    "ForwardCollectDelay",
    "LossyQuality",
    "ExportConverters",
    "ExportConverter0",
    "ExportModality0",
    "ExportStationName0",
    "ExportCalledAE0",
    "ExportCallingAE0",
    "ExportFilter0",
    "ForwardAssociationLevel",
    "ForwardAssociationCloseDelay",
    "ForwardAssociationRefreshDelay",
    "ForwardAssociationRelease",
    "ImportConverters",
    "ImportConverter12",
    "ImportModality0",
    "ImportStationName0",
    "ImportCalledAE0",
    "ImportCallingAE0",
    "QueryConverter0",
    "WorkListQueryConverter0",
    "RetrieveConverter0",
    "RetrieveResultConverter0",
    "QueryResultConverter0",
    "ModalityWorklistQueryResultConverter0",
    "MergeStudiesConverter0",
    "MergeSeriesConverter0",
    "ArchiveConverter0",
    "VirtualServerQueryConverter0",
    "VirtualServerQueryResultConverter0",
    "MoveDeviceConverter0",
    "RejectedImageConverter0",
    "RegenConverter0",
    "RegenFailConverter0",
    "CompressionConverter0",
    "RenameOnRewrite",
    "IgnoreRewrite",
]


@pytest.mark.parametrize("name", OF_CONQUEST)
def test_items_of_conquest_are_known(name: str) -> None:
    item = find_item(name)
    assert item is not None
    assert not item.ours
    assert find_item(name.upper()) is item


def test_names_are_unique() -> None:
    names = [
        (item.section, name.casefold())
        for item in all_items()
        for name in (item.name, *item.aliases)
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("item", all_items(), ids=lambda item: item.name)
def test_rows_make_sense(item: Item) -> None:
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", item.name)
    assert item.help.endswith(".")
    assert item.help[0].isupper() or item.help[0] in "`0123456789"
    assert "|" not in item.help
    match item.kind:
        case Kind.NUMBER:
            assert item.minimum <= int(item.default) <= item.maximum
        case Kind.FLAG:
            assert item.default in ("0", "1")
        case Kind.CHOICE:
            assert item.default in item.choices


def test_numbers_behind_names() -> None:
    assert split_number("MAGDevice12") == ("MAGDevice", "12")
    assert split_number("TCPPort") == ("TCPPort", "")
    assert find_item("MAGDevice") is None
    assert find_item("TCPPort1") is None
    assert find_item("WorkListReturnsISO_IR_100") is item_named("WorkListReturnsISO_IR_100")


def test_lua_items_are_in_their_section() -> None:
    assert find_item("association", "lua") is not None
    assert find_item("association") is None


def test_the_default_file_uses_known_items_and_their_defaults() -> None:
    for raw in default_text("dicom.ini").splitlines():
        line = raw.removeprefix("#")
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or " " in name:
            continue
        item = find_item(name)
        assert item is not None, name
        assert item.state is State.WORKS
        if not raw.startswith("#") and "@" not in value:
            assert value == item.default
