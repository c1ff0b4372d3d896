"""From files to settings: defaults, every kind of bad value, and what the native half gets."""

from pathlib import Path

import pytest

from pyserver import _native
from pyserver.config.database import choose_driver
from pyserver.config.defaults import FILES, new_uid_prefix, write_defaults
from pyserver.config.findings import Severity
from pyserver.config.ini import parse_ini
from pyserver.config.settings import Overrides, Settings, load_settings, read_settings
from pyserver.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_defaults(tmp_path / "home")
    return tmp_path / "home"


def change(home: Path, *lines: str) -> None:
    """Put lines before the others of dicom.ini: the first line of a name counts."""
    path = home / "dicom.ini"
    text = path.read_text().replace("[sscscp]", "[sscscp]\n" + "\n".join(lines), 1)
    path.write_text(text)


def load(home: Path, *lines: str) -> Settings:
    change(home, *lines)
    return load_settings(home)


def test_defaults(home: Path) -> None:
    settings = load_settings(home)
    native = settings.to_native()
    assert native["ae_title"] == "CONQUESTSRV1"
    assert native["port"] == 5678
    assert native["devices"] == [str(home / "data")]
    assert native["index_dir"] == str(home / "index")
    assert native["listen_addresses"] == ["127.0.0.1"]
    assert native["unknown_peers"] == "store"
    assert native["durability"] == "durable"
    assert native["file_name_syntax"] == "4"
    assert native["store_failed_status"] == 0x0110
    assert native["read_ahead"] == 5
    assert native["peers"][0] == {
        "ae": "CONQUESTSRV1",
        "host": "127.0.0.1",
        "port": "5678",
        "syntaxes": [],
        "only": False,
        "quality": 0,
        "mode": "",
    }
    assert "*Patient*" in native["dicom_sql"]
    assert settings.log_dir == home / "logs"
    assert settings.incoming_folders == (home / "data/incoming",)
    assert settings.pacs_name == "CONQUESTSRV1"


def test_the_flat_form_holds_plain_values(home: Path) -> None:
    plain = (str, int, bool)
    for name, value in load_settings(home).to_native().items():
        if isinstance(value, list):
            assert all(isinstance(item, str | dict) for item in value), name
        elif not isinstance(value, dict):
            assert isinstance(value, plain), name


def test_first_start_writes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "dicom.ini").write_text("[sscscp]\nMicroPACS = sscscp\n")
    written = write_defaults(tmp_path, aet="X", port=104)
    assert sorted(path.name for path in written) == sorted(set(FILES) - {"dicom.ini"})
    assert write_defaults(tmp_path) == []
    assert "104" in (tmp_path / "acrnema.map").read_text()
    assert load_settings(tmp_path).ae_title == "CONQUESTSRV1"
    assert not list(tmp_path.glob(".*"))


def test_a_prefix_for_uids_is_a_valid_uid() -> None:
    prefix = new_uid_prefix()
    assert prefix.startswith("1.2.826.0.1.3680043.2.135.")
    assert all(part == "0" or not part.startswith("0") for part in prefix.split("."))
    # Conquest appends .7.time.counter.
    assert len(prefix) + len(".7.1700000000.9999") <= 64


def test_overrides(home: Path) -> None:
    settings = load_settings(home, None, Overrides(port=0, aet="OTHER"))
    assert (settings.native.port, settings.ae_title) == (0, "OTHER")


def test_config_elsewhere(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_defaults(other, aet="ELSEWHERE")
    for config in (other, other / "dicom.ini"):
        settings = load_settings(home, config)
        assert settings.ae_title == "ELSEWHERE"
        assert settings.native.devices == [str(home / "data")]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MAGDeviceFullThreshHold = 7", "mag_device_full_threshold_mb", 7),
        ("IgnoreMAGDeviceThreshold = 1", "mag_device_full_threshold_mb", 0),
        ("EnableReadAheadThread = 0", "read_ahead", 0),
        ("EnableReadAheadThread = 9", "read_ahead", 9),
        ("StorageFailedErrorCode = 0xA700", "store_failed_status", 0xA700),
        ("Durability = Relaxed", "durability", "relaxed"),
        ("DurabilityByAE = CT1=relaxed, PACS = Durable,", "durability_by_ae", {"CT1": "relaxed"}),
        ("ListenAddress = 10.0.0.1, ::1", "listen_addresses", ["10.0.0.1", "::1"]),
        ("FileNameSyntax = %id/%studyuid/%sopuid.dcm", "file_name_syntax", None),
        ("TCPIPTimeOut = 5", "dimse_timeout_s", 5),
        ("AllowEmptyPatientID = 1", "allow_empty_patient_id", True),
        ("AllowEmptyPatientID =", "allow_empty_patient_id", False),
        ("MAGDevice0 = sub\\folder\\", "devices", None),
    ],
)
def test_items_become_settings(home: Path, line: str, name: str, value: object) -> None:
    native = load(home, line).to_native()
    if name == "durability_by_ae":
        assert native[name] == {"CT1": "relaxed", "PACS": "durable"}
    elif name == "devices":
        assert native[name] == [str(home / "sub/folder")]
    elif value is None:
        assert native[name] == line.partition("=")[2].strip()
    else:
        assert native[name] == value


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("TCPPort = x", "'x' is not a number"),
        ("TCPPort = 70000", "not within 0 to 65535"),
        ("AssociationsMax = 0", "not within 1"),
        ("FixPhilips = yes", "neither 0 nor 1"),
        ("ListenAddress = 127.0.0.1, eth0", "'eth0' is not an address"),
        ("Durability = sometimes", "none of durable, relaxed"),
        ("UnknownPeers = none", "none of store, refuse, all"),
        ("DurabilityByAE = CT1", "not AE=durable"),
        ("MyACRNema = TOOLONGTOOLONGTOO", "not an AE title"),
        ("MyACRNema =", "not an AE title"),
        ("MAGDevice0 = C:\\dicomserver\\data\\", "Windows path"),
        ("MAGDevices = 2", "no line MAGDevice1"),
        ("MAGDevices = 2\nMAGDevice1 = ./data", "same folder"),
        ("FileNameSyntax = lua:Data.PatientID", "Lua"),
        ("FileNameSyntax = name", "neither a number nor"),
        ("ACRNemaMap = absent.map", "absent.map: cannot be read"),
        ("SOPClassList = absent.lst", "absent.lst: cannot be read"),
        ("kFactorFile = absent.sql", "absent.sql: cannot be read"),
    ],
)
def test_bad_values_are_refused_with_their_place(home: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load(home, line)
    if "absent" not in line:
        assert caught.value.file == home / "dicom.ini"


def test_a_number_of_thousands_of_digits(home: Path) -> None:
    assert load(home, "FileNameSyntax = " + 5000 * "1").native.file_name_syntax


def test_all_mistakes_are_found_at_once(home: Path) -> None:
    change(home, "TCPPort = x", "Durability = y", "FixKodak = z")
    settings, findings = read_settings(home)
    assert settings is not None
    assert len(findings.of(Severity.ERROR)) == 3
    assert [finding.line for finding in findings.of(Severity.ERROR)] == sorted(
        finding.line for finding in findings.of(Severity.ERROR)
    ) or len({finding.line for finding in findings.items}) == 3


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)


def test_listens_everywhere_as_soon_as_a_peer_is_elsewhere(home: Path) -> None:
    (home / "acrnema.map").write_text("LOCAL localhost 104\n")
    assert load_settings(home).native.listen_addresses == ["127.0.0.1"]
    (home / "acrnema.map").write_text("LOCAL localhost 104\nFAR 10.0.0.1 104\n")
    assert load_settings(home).native.listen_addresses == ["0.0.0.0"]


@pytest.mark.parametrize(
    ("lines", "driver"),
    [
        ("", "lmdb"),
        ("Index = lmdb\nSqLite = 1", "lmdb"),
        ("Index = Postgres", "postgres"),
        ("SqLite = 1\nSQLServer = x.db3", "sqlite"),
        ("sqlite = 1", "sqlite"),
        ("SqLite = 0\nPostGres = 1", "postgres"),
        ("MySQL = 1", "mysql"),
        ("SqLite = 0\nPostGres = 0\nMySQL = 0", "lmdb"),
        ("SQLServer =", "null"),
        ("SqLite = 0\nSQLServer =", "null"),
        ("SqLite = 1\nSQLServer =", "null"),
        ("SQLServer = conquest", "odbc"),
        ("SQLServer = C:\\dicomserver\\data\\dbase\\", "dbase"),
        ("SQLServer = ./data/dbase/", "dbase"),
    ],
)
def test_the_driver_is_chosen_as_in_conquest(lines: str, driver: str) -> None:
    assert choose_driver(parse_ini(f"[sscscp]\n{lines}\n", Path("dicom.ini")))[0] == driver


def test_odbc_needs_a_source(home: Path) -> None:
    text = (home / "dicom.ini").read_text().replace("Index  ", "#Index  ")
    (home / "dicom.ini").write_text(text)
    with pytest.raises(ConfigError, match=r"Index = odbc.*name of an ODBC data source"):
        load(home, "Index = odbc")
    assert load(home, "SQLServer = conquest").database.driver == "odbc"


def test_columns_get_no_wider_than_asked(home: Path) -> None:
    widths = {row["length"] for row in _native.parse_columns(load(home, "").native.dicom_sql)}
    assert max(widths) == 128
    narrow = _native.parse_columns(load(home, "MaxFieldLength = 64").native.dicom_sql)
    assert {row["length"] for row in narrow} == {width for width in widths if width <= 64}
