"""`dgate`: the commands of Conquest's program that have a counterpart here, spelt as there.

`dgate --deletepatient:42`, `dgate -w/home/dicom --clonedb:PACS`: a command name, a colon and the
argument in one word (manual, appendix 5). Commands are told to the running server of the home
folder, or carried out here when none runs.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyserver import __version__, _native
from pyserver.archive import ArchiveAccess
from pyserver.cli import clone
from pyserver.cli import dgate_images as images
from pyserver.cli.access import open_archive, resolve_peer
from pyserver.cli.command import DONE, FAILED, PARTLY, home_folder, optional_settings, settings_of
from pyserver.cli.output import Output
from pyserver.control import ControlClient
from pyserver.errors import PyserverError, UsageError
from pyserver.incoming import is_stored
from pyserver.index.tables import WORKLIST

Run = Callable[[argparse.Namespace, Output, str], int]

# Conquest answers C-ECHO with these words.
UP, DOWN = "is UP", "is DOWN"
ECHO_TIMEOUT_S = 10.0


# The manual's number for the table of the worklist.
CLEAR_WORKLIST = "2"

PICTURE = "FILE,SIZE,OUT,LEVEL/WINDOW/FRAME"


@dataclass(frozen=True, slots=True)
class Row:
    """One command: name, what its argument is, function, help."""

    name: str
    argument: str
    run: Run
    summary: str


def _clonedb(args: argparse.Namespace, out: Output, argument: str) -> int:
    return clone.clone(args, out, argument, clone.ASSOCIATIONS, restart=False)


def _echo(args: argparse.Namespace, out: Output, argument: str) -> int:
    settings = settings_of(args)
    address = resolve_peer(argument, settings)
    try:
        _native.echo(address.as_native(), settings.ae_title, ECHO_TIMEOUT_S)
    except _native.NativeError as error:
        out.complain(str(error))
        out.say(f"{argument} {DOWN}")
        return PARTLY
    out.say(f"{argument} {UP}")
    return DONE


def _addimagefile(args: argparse.Namespace, out: Output, argument: str) -> int:
    if not Path(argument).is_file():
        raise UsageError(f"{argument!r} is not a file (a new patient ID is not supported)")
    with open_archive(args, out) as archive:
        answer = archive.add([str(Path(argument).absolute())], "")[0]
    if not is_stored(answer):
        out.complain(str(answer["reason"]))
    # Conquest's own answer: 0 when the file was stored.
    out.say("0" if is_stored(answer) else "1")
    return DONE if is_stored(answer) else PARTLY


def _delete(level: str) -> Run:
    def run(args: argparse.Namespace, out: Output, argument: str) -> int:
        # `PATIENT:UID`: the patient may be left out, the colon then stands first or not at all.
        patient, colon, uid = argument.rpartition(":")
        if level == "patient":
            patient, uid = "", argument
        if not uid.strip() or set(uid) & set("*?\\"):
            raise UsageError(f"{uid!r} is not an exact identifier; wildcards delete nothing here")
        with open_archive(args, out) as archive:
            if colon and patient:
                _check_owner(archive, level, uid, patient)
            deleted = archive.delete(level, [uid])
        return DONE if any(deleted.values()) else PARTLY

    return run


def _check_owner(archive: ArchiveAccess, level: str, uid: str, patient: str) -> None:
    key = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "image": "SOPInstanceUID"}
    found = archive.find(level, {key[level]: uid, "PatientID": ""}, 1, 0)
    if found and found[0]["PatientID"] != patient:
        raise UsageError(f"{level} {uid} is not of patient {patient}")


def _regen(scope: str | None) -> Run:
    def run(args: argparse.Namespace, out: Output, argument: str) -> int:
        wanted = {} if scope is None else {scope: argument}
        if scope is not None and not argument:
            raise UsageError("what is to be rebuilt stands behind the colon")
        with open_archive(args, out) as archive, out.progress("Rebuilding the index") as progress:
            report = archive.regen(wanted, progress)
        for item in report.get("refused", []):
            out.complain(f"refused: {item['file']}: {item['reason']}")
        return PARTLY if report.get("refused") else DONE

    return run


def _loadhl7(args: argparse.Namespace, out: Output, argument: str) -> int:
    if not Path(argument).is_file():
        raise UsageError(f"{argument!r} is not a file")
    with open_archive(args, out) as archive:
        archive.worklist_load(str(Path(argument).absolute()))
    return DONE


def _addrecord(args: argparse.Namespace, out: Output, argument: str) -> int:
    table, names, texts, *_ = (*argument.split("|", 2), "", "")
    if table.casefold() != WORKLIST.casefold():
        raise UsageError(f"rows of {table} follow its objects; only {WORKLIST} takes others")
    columns = [name.strip() for name in names.split(",")]
    values = next(csv.reader([texts], quotechar="'", skipinitialspace=True), [])
    if len(values) != len(columns):
        raise UsageError(f"{len(columns)} columns, but {len(values)} values")
    with open_archive(args, out) as archive:
        archive.worklist_add(dict(zip(columns, values, strict=True)))
    return DONE


def _initializetables(args: argparse.Namespace, out: Output, argument: str) -> int:
    if argument != CLEAR_WORKLIST:
        raise UsageError("only :2, the worklist, is cleared; `--regen:` makes the others anew")
    with open_archive(args, out) as archive:
        archive.worklist_remove({})
    return DONE


def _testmode(args: argparse.Namespace, _out: Output, argument: str) -> int:
    ControlClient(home_folder(args)).call("test_mode", suffix=argument)
    return DONE


COMMANDS = (
    Row("clonedb", "AE", _clonedb, "copy the index of a server, without the objects"),
    Row("echo", "AE", _echo, "ask a server whether it is there"),
    Row("addimagefile", "FILE", _addimagefile, "store a file; answers 0, or 1 when it is refused"),
    Row("deletepatient", "ID", _delete("patient"), "delete a patient"),
    Row("deletestudy", "ID:UID", _delete("study"), "delete a study"),
    Row("deleteseries", "ID:UID", _delete("series"), "delete a series"),
    Row("deleteimage", "ID:UID", _delete("image"), "delete an image"),
    Row("regen", "", _regen(None), "rebuild the index from all files"),
    Row("regendevice", "MAGn", _regen("device"), "rebuild it from the files of a device"),
    Row("regenfile", "FILE", _regen("file"), "rebuild it from one file"),
    Row("loadhl7", "FILE", _loadhl7, "enter the orders of an HL7 file into the worklist"),
    Row(
        "addrecord",
        f"{WORKLIST}|COLUMNS|VALUES",
        _addrecord,
        "add a row to the worklist: names with commas, values in '' with commas",
    ),
    Row("initializetables", CLEAR_WORKLIST, _initializetables, "clear the worklist"),
    Row("testmode", "TEXT", _testmode, "put a text behind the names of files from now on"),
    Row("compress", "FILE,MODE,OUT", images.compress, "a copy of a file in another compression"),
    Row("uncompress", "FILE,OUT", images.uncompress, "an uncompressed copy of a file"),
    Row("testcompress", "FILE", images.test_compressions, "a file into every mode and back"),
    Row("count_frames", "FILE", images.count_frames, "the number of frames"),
    Row("extract_frames", "FILE,OUT,FIRST,LAST", images.extract_frames, "a copy of some frames"),
    Row("convert_to_gif", PICTURE, images.convert_to("GIF"), "a grey picture; SIZE 0: as large"),
    Row("convert_to_bmp", PICTURE, images.convert_to("BMP", colour=True), "a colour picture"),
    Row("convert_to_jpg", PICTURE, images.convert_to("JPEG"), "a picture"),
    Row(
        "convert_to_dicom",
        "FILE,SIZE,MODE,FRAME",
        images.convert_to_dicom,
        "on standard output: smaller, compressed, one frame; each may be left empty",
    ),
)

# Options of one letter that change a file in its place: what stands behind them, and their mode.
FILE_OPTIONS = (
    ("-j*", "MODEFILE", "", "put a file into another compression (also -j-)"),
    ("-j-", "MODEFILE", "", ""),
    ("-jd", "FILE", "un", "decompress a file"),
    ("-jc", "nFILE", "j", "compress a file by mode jn"),
    ("-nd", "FILE", "un", "decompress a file"),
    (
        "-nc",
        "nFILE",
        "n",
        "compress a .v2 file by NKI mode n1 to n4 (AllowNKIAsDICOM = 1: also others)",
    ),
)
NKI_COMPRESS = "-nc"
# The only one with a blank before each argument.
NKI_UNCOMPRESS = ("-nu", "a copy of an object, or of an NKI stream alone, decompressed")
MODE_LENGTH = 2


def words_and_meanings() -> list[tuple[str, str]]:
    """Every command, and what it does."""
    words = [(f"--{row.name}:{row.argument}", row.summary) for row in COMMANDS]
    words += [(option + rest, summary) for option, rest, _, summary in FILE_OPTIONS if summary]
    words.append((f"{NKI_UNCOMPRESS[0]} IN OUT", NKI_UNCOMPRESS[1]))
    return [*words, ("-wDIR", "home folder of the server, before the command")]


def usage() -> str:
    """What `dgate -?` prints."""
    words = words_and_meanings()
    width = max(len(word) for word, _ in words)
    lines = [f"  {word:<{width}}  {summary}" for word, summary in words]
    head = f"pyserver {__version__}: commands as Conquest's dgate has them; `pyserver` has more"
    return "\n".join([head, *lines])


def _parse(words: Sequence[str]) -> tuple[argparse.Namespace, Row, str]:
    args = argparse.Namespace(home=None, config=None, json=False)
    for number, word in enumerate(words):
        if word.lower() == NKI_UNCOMPRESS[0]:
            row = Row(word, "IN OUT", images.uncompress_nki, NKI_UNCOMPRESS[1])
            return args, row, ",".join(words[number + 1 :])
        if word.startswith("-w"):
            args.home = Path(word[2:])
            continue
        if option := _file_option(word):
            return args, *option
        name, colon, argument = word.removeprefix("--").partition(":")
        found = next((row for row in COMMANDS if row.name == name), None)
        if not word.startswith("--") or not colon or found is None:
            raise UsageError(f"there is no command {word!r}; `dgate -?` lists what there is")
        return args, found, argument
    raise UsageError("a command is missing; `dgate -?` lists what there is")


def _file_option(word: str) -> tuple[Row, str] | None:
    for option, _rest, mode, summary in FILE_OPTIONS:
        if word.lower().startswith(option):
            known, file = mode, word[len(option) :].removeprefix(",")
            if len(known) < MODE_LENGTH:
                taken = MODE_LENGTH - len(known)
                known, file = known + file[:taken], file[taken:].removeprefix(",")
            in_nki = option == NKI_COMPRESS
            change = images.compress_nki if in_nki else images.recompress_in_place
            row = Row(option, "", change, summary)
            return row, f"{known},{file}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 in part, 2 not."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    out = Output(as_json=False)
    if not words or {"-?", "--help"} & set(words):
        out.say(usage())
        return DONE
    try:
        args, row, argument = _parse(words)
        optional_settings(args)
        return row.run(args, out, argument)
    except (PyserverError, _native.NativeError, OSError) as error:
        out.complain(f"dgate: {error}")
        return FAILED
    except KeyboardInterrupt:
        out.complain("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
