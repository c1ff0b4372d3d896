"""The configuration as one frozen value, and the flat dictionary that the native half takes.

Read once at start and once per reload; a reload makes a new `Settings` or leaves the old one.
Relative paths are relative to the home folder.
"""

import ipaddress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyserver.config.database import DatabaseSettings, check_source, narrow_columns, split_host
from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile, parse_ini, read_text
from pyserver.config.item_reader import ItemReader
from pyserver.config.items import item_named
from pyserver.config.peers import AE_LENGTH_MAX, PORT_MAX, PeerMap, parse_peers
from pyserver.config.rule_settings import ForwardSettings, RuleSettings
from pyserver.config.sop_list import SopList, parse_sop_list
from pyserver.errors import ConfigError
from pyserver.pixels.codec_settings import CodecSettings
from pyserver.pixels.modes import BY_LETTERS, find_mode, outgoing_compression

INI_NAME = "dicom.ini"
READ_AHEAD_DEFAULT = 5
FILE_NAME_SYNTAX_MAX = 12
NUMBER_DIGITS_MAX = 9  # Python refuses to read numbers of thousands of digits
EXPORT_MAX = 20
LOOPBACK = "127.0.0.1"
ALL_INTERFACES = "0.0.0.0"

# s0 to s9 are converters.
_CONVERTER_MODE = "s"


@dataclass(frozen=True, slots=True)
class NativeSettings:
    """What the native half reads; its keys are the names of these fields."""

    home: str
    devices: list[str]
    index_dir: str
    keeps_index: bool
    dicom_sql: str
    ae_title: str
    listen_addresses: list[str]
    port: int
    peers: list[dict[str, Any]]
    unknown_peers: str
    local_aes: list[str]
    remote_aes: list[str]
    sop_classes: list[str]
    transfer_syntaxes: list[str]
    file_name_syntax: str
    max_file_name_length: int
    rename_on_rewrite: bool
    ignore_rewrite: bool
    allow_empty_patient_id: bool
    accept_invalid_uids: bool
    fix_philips: bool
    fix_kodak: bool
    store_failed_status: int
    durability: str
    durability_by_ae: dict[str, str]
    journal_object_bytes: int
    mag_device_full_threshold_mb: int
    enable_computed_fields: bool
    find_results_max: int
    read_ahead: int
    read_ahead_bytes: int
    associations_max: int
    connections_max: int
    pdu_bytes_max: int
    idle_timeout_s: int
    artim_s: int
    dimse_timeout_s: int
    connect_timeout_s: int
    drain_s: int
    scan_depth_max: int
    scan_elements_max: int
    header_bytes_max: int
    dataset_bytes_max: int
    worklist_charset: str
    modes: dict[str, dict[str, Any]]
    nki_as_dicom: bool
    incoming_compression: str
    lossy_quality: int
    uid_prefix: str
    export_converters: list[int]
    has_mirrors: bool
    debug_level: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a site configures."""

    home: Path
    config_dir: Path
    native: NativeSettings
    peer_map: PeerMap
    sop_list: SopList
    database: DatabaseSettings
    ini: IniFile
    log_dir: Path
    log_days_kept: int
    pacs_name: str
    incoming_folders: tuple[Path, ...]
    incoming_delay_s: float
    rules: RuleSettings
    forward: ForwardSettings
    mirrors: dict[int, Path]
    dropped_compression: str
    archive_compression: str
    codecs: CodecSettings
    findings: Findings

    @property
    def ae_title(self) -> str:
        """Our own AE title."""
        return self.native.ae_title

    def to_native(self) -> dict[str, Any]:
        """The dictionary for `Archive` and `Server`."""
        return asdict(self.native)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line sets for one run, over the files."""

    port: int | None = None
    aet: str | None = None


def config_file(home: Path, config: Path | None) -> Path:
    """The dicom.ini to read: `--config` names it or its folder, else it lies in the home folder."""
    if config is None:
        return home / INI_NAME
    return config / INI_NAME if config.is_dir() else config


def load_settings(
    home: Path, config: Path | None = None, overrides: Overrides | None = None
) -> Settings:
    """Read all files; the first error is raised as ConfigError."""
    settings, findings = read_settings(home, config, overrides)
    findings.raise_first_error()
    if settings is None:
        raise ConfigError("cannot be read", file=config_file(home, config))
    return settings


def read_settings(
    home: Path, config: Path | None = None, overrides: Overrides | None = None
) -> tuple[Settings | None, Findings]:
    """Read all files and collect what is wrong; None when there is no dicom.ini to speak of."""
    findings = Findings()
    path = config_file(home, config)
    try:
        ini = parse_ini(read_text(path), path)
    except ConfigError as error:
        findings.take(error)
        return None, findings
    reader = _Reader(ini, home.absolute(), findings)
    return reader.settings(overrides or Overrides()), findings


class _Reader(ItemReader):
    """Reads all items of a home folder's files."""

    def devices(self) -> list[Path]:
        folders = []
        for number in range(self.number("MAGDevices")):
            line = self.ini.find(f"MAGDevice{number}")
            if line is None and number > 0:
                self.wrong("MAGDevices", f"there is no line MAGDevice{number}")
            elif line is None or not line.value:
                folders.append(self.folder("MAGDevice0", item_named("MAGDevice").default))
            else:
                folders.append(self.folder(line.name, line.value))
        if len(set(folders)) != len(folders):
            self.wrong("MAGDevices", "two devices are the same folder")
        return folders

    def file_name_syntax(self) -> str:
        text = self.text("FileNameSyntax")
        if text.casefold().startswith("lua:"):
            self.wrong("FileNameSyntax", "names made by Lua are not built into this version yet")
        elif text.isascii() and text.isdigit():
            if len(text) > NUMBER_DIGITS_MAX or int(text) > FILE_NAME_SYNTAX_MAX:
                self.findings.warning(
                    f"FileNameSyntax {text} is unknown and acts like 0, as in Conquest",
                    self.ini.path,
                    self.line("FileNameSyntax"),
                )
        elif "%" not in text:
            self.wrong("FileNameSyntax", f"{text!r} is neither a number nor has a %")
        return text

    def durability_by_ae(self) -> dict[str, str]:
        chosen = {}
        for word in self.words("DurabilityByAE"):
            ae, equals, value = (part.strip() for part in word.partition("="))
            if not equals or not ae or value.casefold() not in ("durable", "relaxed"):
                self.wrong("DurabilityByAE", f"{word!r} is not AE=durable or AE=relaxed")
            else:
                chosen[ae] = value.casefold()
        return chosen

    def ae_title(self, override: str | None) -> str:
        title = self.text("MyACRNema") if override is None else override
        if not title or len(title) > AE_LENGTH_MAX or not title.isascii() or "\\" in title:
            self.wrong(
                "MyACRNema", f"{title!r} is not an AE title: 1 to 16 ASCII characters, no backslash"
            )
        return title

    def peer_map(self) -> PeerMap:
        path = self.home_or_config("ACRNemaMap")
        try:
            return parse_peers(read_text(path), path)
        except ConfigError as error:
            self.findings.take(error)
            return PeerMap(path, ())

    def sop_list(self) -> SopList:
        path = self.home_or_config("SOPClassList")
        try:
            return parse_sop_list(read_text(path), path)
        except ConfigError as error:
            self.findings.take(error)
            return SopList(path)

    def dicom_sql(self) -> str:
        path = self.home_or_config("kFactorFile")
        try:
            return narrow_columns(read_text(path), self.number("MaxFieldLength"))
        except ConfigError as error:
            self.findings.take(error)
            return ""

    def database(self) -> DatabaseSettings:
        host, port = split_host(self.text("SQLHost"))
        return DatabaseSettings(
            driver=check_source(self.ini, self.findings),
            host=host,
            port=port,
            name=self.text("SQLServer"),
            user=self.text("Username"),
            password=self.text("Password"),
            startup=self.text("SQLiteStartup"),
            name_length=self.number("TruncateFieldNames"),
            utf8=self.flag("UTF8ToDB") or self.flag("UTF8FromDB"),
            index_dbf=self.number("IndexDBF"),
            pack_dbf=self.flag("PackDBF"),
            long_query_dbf=self.number("LongQueryDBF"),
        )

    def listen_addresses(self, peers: PeerMap) -> list[str]:
        chosen = self.words("ListenAddress")
        for address in chosen:
            try:
                ipaddress.ip_address(address)
            except ValueError:
                self.wrong(
                    "ListenAddress",
                    f"{address!r} is not an address of this machine",
                    "an IP address; 0.0.0.0 for all interfaces",
                )
        if chosen:
            return chosen
        remote = any(peer.is_remote for peer in peers.peers)
        return [ALL_INTERFACES if remote else LOOPBACK]

    def mode(self, name: str) -> str:
        text = self.text(name).strip().casefold()
        if find_mode(text) is None and not text.startswith(_CONVERTER_MODE):
            self.findings.warning(
                f"{name}: {text!r} is no compression mode; objects are kept as they come",
                self.ini.path,
                self.line(name),
            )
        return text

    def read_ahead(self) -> int:
        value = self.number("EnableReadAheadThread")
        return READ_AHEAD_DEFAULT if value == 1 else value

    def settings(self, overrides: Overrides) -> Settings:
        database = self.database()
        devices = self.devices()
        peers = self.peer_map()
        sops = self.sop_list()
        aet = self.ae_title(overrides.aet)
        port = self.number("TCPPort") if overrides.port is None else overrides.port
        if not 0 <= port <= PORT_MAX:
            self.wrong("TCPPort", f"{port} is not a port")
        incoming = [devices[0] / "incoming"] if devices else []
        if self.text("WatchFolder"):
            incoming.append(self.folder("WatchFolder"))
        return Settings(
            home=self.home,
            config_dir=self.ini.path.parent,
            native=self._native(devices, peers, sops, aet, port, database),
            peer_map=peers,
            sop_list=sops,
            database=database,
            ini=self.ini,
            log_dir=self.folder("LogDir"),
            log_days_kept=self.number("LogDaysKept"),
            pacs_name=self.text("PACSName") or aet,
            incoming_folders=tuple(incoming),
            incoming_delay_s=self.number("DelayIncomingFileOpen") / 1000,
            rules=self.rules(),
            forward=self.forward(),
            mirrors=self.mirrors(),
            dropped_compression=self.mode("DroppedFileCompression"),
            archive_compression=self.mode("ArchiveCompression"),
            codecs=CodecSettings(
                processes=self.number("CodecProcesses"),
                timeout_s=float(self.number("CodecTimeout")),
                object_mb=self.number("CodecObjectMB"),
                held_mb=self.number("CodecHeldMB"),
                lossy_new_uid=self.flag("LossyNewUID"),
            ),
            findings=self.findings,
        )

    def mirrors(self) -> dict[int, Path]:
        """Mirror folders by the number of the device that they copy."""
        folders = {}
        for number in range(self.number("MIRRORDevices")):
            line = self.ini.find(f"MIRRORDevice{number}")
            if line is None or not line.value:
                self.wrong("MIRRORDevices", f"there is no line MIRRORDevice{number}")
            else:
                folders[number] = self.folder(line.name, line.value)
        return folders

    def export_numbers(self) -> list[int]:
        """The export converters that have a line."""
        count = self.number("ExportConverters")
        return [n for n in range(min(count, EXPORT_MAX)) if self.ini.value(f"ExportConverter{n}")]

    def forward(self) -> ForwardSettings:
        return ForwardSettings(
            hold_off_s=self.number("FailHoldOff"),
            retry_delay_s=self.number("RetryDelay"),
            retries_max=self.number("MaximumExportRetries"),
            retry_failed=self.flag("RetryForwardFailed"),
            level=self.choice("ForwardAssociationLevel"),
            close_delay_s=self.number("ForwardAssociationCloseDelay"),
            delayed_retries_max=self.number("MaximumDelayedFetchForwardRetries"),
            collect_delay_s=self.number("ForwardCollectDelay"),
            refresh_delay_s=self.number("ForwardAssociationRefreshDelay"),
            delayed_threads=self.number("DelayedForwarderThreads"),
            release=self.flag("ForwardAssociationRelease"),
        )

    def worklist_charset(self) -> str:
        """Character set of worklist answers, empty for none."""
        older = self.find("WorkListReturnsISO_IR_100")
        newer = self.find("WorkListReturnsISO_IR")
        if newer is None and older is not None and not self.flag("WorkListReturnsISO_IR_100"):
            return ""
        number = self.number("WorkListReturnsISO_IR")
        return f"ISO_IR {number}" if number else ""

    def rules(self) -> RuleSettings:
        return RuleSettings(
            reject_on_error=self.choice("OnConverterError") == "reject",
            shell=self.flag("ShellCommands"),
            folders=tuple(
                self.folder("ConverterFolders", f) for f in self.words("ConverterFolders")
            ),
            processes_max=self.number("ConverterProcessesMax"),
            time_limit_s=self.number("ConverterTimeLimit"),
            worklist_mode=self.number("WorkListMode"),
        )

    def _native(
        self,
        devices: list[Path],
        peers: PeerMap,
        sops: SopList,
        aet: str,
        port: int,
        database: DatabaseSettings,
    ) -> NativeSettings:
        ignore_threshold = self.flag("IgnoreMAGDeviceThreshold")
        threshold = self.number("MAGDeviceFullThreshold")
        return NativeSettings(
            home=str(self.home),
            devices=[str(folder) for folder in devices],
            index_dir=str(self.folder("LmdbDir")),
            keeps_index=database.driver != "null",
            dicom_sql=self.dicom_sql(),
            ae_title=aet,
            listen_addresses=self.listen_addresses(peers),
            port=port,
            peers=[peer.as_native() for peer in peers.peers],
            unknown_peers=self.choice("UnknownPeers"),
            local_aes=list(sops.local_aes),
            remote_aes=list(sops.remote_aes),
            sop_classes=list(sops.sop_classes),
            transfer_syntaxes=list(sops.transfer_syntaxes),
            file_name_syntax=self.file_name_syntax(),
            max_file_name_length=self.number("MaxFileNameLength"),
            rename_on_rewrite=self.flag("RenameOnRewrite"),
            ignore_rewrite=self.flag("IgnoreRewrite"),
            allow_empty_patient_id=self.flag("AllowEmptyPatientID"),
            accept_invalid_uids=self.flag("AcceptInvalidUIDs"),
            fix_philips=self.flag("FixPhilips"),
            fix_kodak=self.flag("FixKodak"),
            store_failed_status=self.number("StorageFailedErrorCode"),
            durability=self.choice("Durability"),
            durability_by_ae=self.durability_by_ae(),
            journal_object_bytes=self.number("JournalObjectBytes"),
            mag_device_full_threshold_mb=0 if ignore_threshold else threshold,
            enable_computed_fields=self.flag("EnableComputedFields"),
            find_results_max=self.number("FindResultsMax"),
            read_ahead=self.read_ahead(),
            read_ahead_bytes=self.number("ReadAheadBytes"),
            associations_max=self.number("AssociationsMax"),
            connections_max=self.number("ConnectionsMax"),
            pdu_bytes_max=self.number("PDUBytesMax"),
            idle_timeout_s=self.number("IdleTimeout"),
            artim_s=self.number("ARTIMTimeout"),
            dimse_timeout_s=self.number("TCPIPTimeOut"),
            connect_timeout_s=self.number("ConnectTimeout"),
            drain_s=self.number("DrainTime"),
            scan_depth_max=self.number("ScanDepthMax"),
            scan_elements_max=self.number("ScanElementsMax"),
            header_bytes_max=self.number("HeaderBytesMax"),
            dataset_bytes_max=self.number("DatasetBytesMax"),
            worklist_charset=self.worklist_charset(),
            modes={name: outgoing_compression(name).as_native() for name in BY_LETTERS},
            nki_as_dicom=self.flag("AllowNKIAsDICOM"),
            incoming_compression=self.mode("IncomingCompression"),
            lossy_quality=self.number("LossyQuality"),
            uid_prefix=self.text("UIDPrefix"),
            export_converters=self.export_numbers(),
            has_mirrors=self.number("MIRRORDevices") > 0,
            debug_level=self.number("DebugLevel"),
        )
