"""What the native server asks about objects, requests and answers: `Server.set_rules`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pyserver import _native
from pyserver.config.settings import FILE_NAME_SYNTAX_MAX, Settings
from pyserver.config.virtual_servers import virtual_servers
from pyserver.policy.compression import recompress
from pyserver.policy.context import ERROR, WARNING, Context, Outcome, Services
from pyserver.policy.converters import Converter, hook_converters, import_converters
from pyserver.policy.forward import Forwards
from pyserver.policy.modes import converter_of
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError
from pyserver.policy.processes import Processes
from pyserver.policy.runtime import run_line
from pyserver.policy.virtual import VirtualServers
from pyserver.worklist import Worklist

# Kind, status, reason, device, whether the compression was chosen, and work to queue: what
# `native/py/src/policy.rs` reads.
Decision = tuple[str, int, str, int | None, bool, list[bytes]]
# `keep`, `drop`, `retry` or `failed`, and the reason.
Ruling = tuple[str, str]

KEEP: Ruling = ("keep", "")
# The WorkListMode that refuses objects, and the hook that then sees them.
REFUSES = 2
REJECTED = "RejectedImageWorkList"
# Hooks that the native server asks at; the others are asked by what does their work.
ASKED = frozenset(
    (
        *("Query", "WorkListQuery", "Retrieve"),
        *("QueryResult", "ModalityWorkListQueryResult", "RetrieveResult", "RejectedImage"),
    )
)
RESULTS = frozenset(("QueryResult", "ModalityWorkListQueryResult", "RetrieveResult"))
REGEN = frozenset(("Regen", "RegenFail"))


def make_services(
    settings: Settings,
    archive: _native.Archive,
    uids: _native.UidTable,
    log: Callable[[int, str], None],
    forwards: Forwards,
    queue: Callable[[bytes], None],
    codecs: _native.CodecPool | None,
    worklist: Worklist,
    repeated: Callable[[str, str, str], None] | None = None,
) -> Services:
    """What converters may use of this server."""
    rules = settings.rules
    native = settings.native
    return Services(
        home=settings.home,
        archive=archive,
        native_archive=archive,
        uids=uids,
        log=log,
        worklist=worklist,
        test_mode=archive.set_file_suffix,
        processes=Processes(rules.processes_max, rules.time_limit_s),
        folders=rules.folders,
        shell=rules.shell,
        forwards=forwards,
        queue=queue,
        devices=len(native.devices),
        codecs=codecs,
        quality=native.lossy_quality,
        archive_mode=settings.archive_compression,
        keeps_nki=native.nki_as_dicom or _is_headerless(native.file_name_syntax),
        lines=_lines(hook_converters(settings.ini, settings.home)),
        repeated=repeated,
    )


def _is_headerless(syntax: str) -> bool:
    """Whether file names are those of files without meta information (`.v2`)."""
    if syntax.isdigit():
        # Numbers above 12 act like 0 (`NameSyntax::is_v2`).
        return int(syntax) in (0, 1, 2, 3, 5, 6, 7) or int(syntax) > FILE_NAME_SYNTAX_MAX
    return syntax.lower().endswith(".v2")


def _lines(hooks: Mapping[str, Sequence[Converter]]) -> dict[str, Line]:
    """`Compression3` or `MergeStudies0` and its line."""
    return {f"{hook}{c.number}": c.line for hook, found in hooks.items() for c in found}


class Rules:
    """The converters of a site that run on receipt, on queries and on retrieves. Called on the
    threads of associations."""

    def __init__(
        self,
        converters: Sequence[Converter],
        hooks: Mapping[str, Sequence[Converter]],
        services: Services,
        settings: Settings,
    ) -> None:
        self._converters = tuple(converters)
        self._by_hook = {hook: tuple(found) for hook, found in hooks.items()}
        self._services = services
        self.home = services.home
        self._failed_status = settings.native.store_failed_status
        self._reject_on_error = settings.rules.reject_on_error
        self._incoming = _incoming_converter(settings)
        self._worklist_mode = settings.rules.worklist_mode
        asked = [hook for hook in self._by_hook if hook in ASKED | REGEN]
        self._virtual: VirtualServers | None = None
        if virtual_servers(settings.ini):
            self._virtual = VirtualServers(settings, services, self._goes_on)
            asked.append("VirtualServers")
        imports = self._converters or self._incoming or self._worklist_mode
        self.hooks = [*(["Import"] if imports else []), *asked]
        # x, y and z of each association.
        self._variables: dict[str, dict[str, str]] = {}

    def import_object(
        self, instance: _native.Instance, calling_ae: str, called_ae: str, association: str
    ) -> Decision | None:
        """Run all import converters; None stores the object as it now is."""
        context = Context(
            self._services,
            instance,
            calling_ae,
            called_ae,
            variables=self._variables_of(association),
            association=association,
        )
        self._compress(context)
        if self._worklist_mode and not self._correct(context):
            return self._refused("the worklist has no entry with its accession number")
        for converter in self._converters:
            if not converter.applies(context):
                continue
            context.label = f"Importconverter{converter.number}"
            outcome = run_line(converter.line, context)
            if outcome is Outcome.DESTROY:
                return ("discard", 0, "", None, False, [])
            if outcome is Outcome.REJECT:
                return self._refused(f"rejected by {converter.source.name}")
        if context.failures and self._reject_on_error:
            return self._refused(f"a converter failed: {context.failures[0]}")
        jobs = [*context.uid_records, *context.jobs]
        if context.device is None and not jobs and not context.compressed:
            return None
        return ("store", 0, "", context.device, context.compressed, jobs)

    def _compress(self, context: Context) -> None:
        """`IncomingCompression = s0` to `s9`: its converter runs first."""
        if not self._incoming:
            return
        try:
            recompress(context, self._incoming)
        except CommandError as error:
            text = f"IncomingCompression {self._incoming}: {error}"
            context.log(ERROR, f"error: {text}")
            context.failures.append(text)

    def _correct(self, context: Context) -> bool:
        """Give an object what its worklist entry says (`WorkListMode`); false refuses it. One
        without entry is shown to RejectedImageWorkListConverter0, which may have it looked up
        again."""
        entry = context.worklist_entry()
        missing = entry is None and self._worklist_mode == REFUSES
        if missing and self._run(REJECTED, context) is Outcome.RETRY:
            entry = context.worklist_entry()
        if entry is None:
            return self._worklist_mode != REFUSES
        context.label = "WorkListMode"
        for tag, text in entry.items():
            if not text or context.instance.get(tag) in (None, text):
                continue
            try:
                context.instance.set(tag, text)
            except (ValueError, _native.NativeError) as error:
                failure = f"{tag} from the worklist: {error}"
                context.log(ERROR, f"error: {failure}")
                context.failures.append(failure)
        return True

    def rule(
        self,
        hook: str,
        instance: _native.Instance,
        calling_ae: str,
        called_ae: str,
        association: str,
        about: str,
    ) -> Ruling:
        """Run the converters of a hook. `about`: the AE title that a retrieve goes to."""
        context = Context(
            self._services,
            instance,
            calling_ae,
            called_ae,
            # As in Conquest; what a query has to do with a station nobody knows.
            station=about if hook in ASKED - {"RejectedImage"} else None,
            variables=self._variables_of(association),
            association=association,
        )
        return self._ruling(hook, context)

    def elsewhere(
        self,
        instance: _native.Instance,
        model: str,
        calling_ae: str,
        called_ae: str,
        _association: str,
    ) -> list[_native.Instance]:
        """What virtual servers answer to a query."""
        if self._virtual is None:
            return []
        return self._virtual.answers(instance, model, (calling_ae, called_ae))

    def bring(
        self,
        instance: _native.Instance,
        _model: str,
        calling_ae: str,
        called_ae: str,
        _association: str,
    ) -> None:
        """Have what only virtual servers have of a retrieve sent here."""
        if self._virtual is not None:
            self._virtual.bring(instance, (calling_ae, called_ae))

    def _goes_on(self, hook: str, context: Context) -> bool:
        ruling, why = self._ruling(hook, context)
        if ruling == "failed":
            context.log(ERROR, f"{hook}: {why}")
        return ruling == "keep"

    def regen(self, hook: str, instance: _native.Instance, path: str) -> Ruling:
        """Run the converters of `Regen` or `RegenFail` on a file of a rebuild."""
        return self._ruling(hook, Context(self._services, instance, "", "", file=Path(path)))

    def _run(self, hook: str, context: Context) -> Outcome:
        """Run the lines of a hook; how the last one ended."""
        outcome = Outcome.NORMAL
        for converter in self._by_hook.get(hook, ()):
            if not converter.applies(context):
                continue
            context.label = f"{hook}converter{converter.number}"
            outcome = run_line(converter.line, context)
        return outcome

    def _ruling(self, hook: str, context: Context) -> Ruling:
        outcome = self._run(hook, context)
        context.commit_uids()
        for job in context.jobs:
            if self._services.queue is not None:
                self._services.queue(job)
        if context.failures:
            return ("failed", context.failures[0])
        if outcome is Outcome.RETRY:
            return ("retry", "")
        if outcome is Outcome.REJECT and hook in RESULTS:
            return ("drop", "")
        return ("drop", "") if outcome is Outcome.DESTROY else KEEP

    def association_ended(self, association: str) -> None:
        """Forget the variables of an association."""
        self._variables.pop(association, None)
        self._services.forwards.association_ended(association)

    def _variables_of(self, association: str) -> dict[str, str]:
        known = self._variables.get(association)
        return self._variables.setdefault(association, {}) if known is None else known

    def _refused(self, why: str) -> Decision:
        self._services.log(WARNING, why)
        return ("refuse", self._failed_status, why, None, False, [])


def _incoming_converter(settings: Settings) -> str:
    mode = settings.native.incoming_compression
    return mode if converter_of(mode) is not None else ""


def make_rules(settings: Settings, services: Services) -> Rules | None:
    """The rules of a site; None without converters."""
    converters = import_converters(settings.ini, settings.home)
    hooks = hook_converters(settings.ini, settings.home)
    rules = Rules(converters, hooks, services, settings)
    return rules if rules.hooks else None


def about_regen(rules: Rules | None) -> Rules | None:
    """The rules, if they have something to say about files of a rebuild."""
    return rules if rules is not None and REGEN & set(rules.hooks) else None
