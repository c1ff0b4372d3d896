"""What the native server asks about each object that arrives: `Server.set_rules`."""

from collections.abc import Callable, Sequence

from pyserver import _native
from pyserver.config.settings import Settings
from pyserver.policy.context import WARNING, Context, Outcome, Services
from pyserver.policy.converters import Converter
from pyserver.policy.forward import Forwards
from pyserver.policy.processes import Processes
from pyserver.policy.runtime import run_line

# Kind, status, reason, device and work to queue: what `native/py/src/policy.rs` reads.
Decision = tuple[str, int, str, int | None, list[bytes]]


def make_services(
    settings: Settings,
    archive: _native.Archive,
    uids: _native.UidTable,
    log: Callable[[int, str], None],
    forwards: Forwards,
    queue: Callable[[bytes], None],
) -> Services:
    """What converters may use of this server."""
    rules = settings.rules
    return Services(
        home=settings.home,
        archive=archive,
        native_archive=archive,
        uids=uids,
        log=log,
        processes=Processes(rules.processes_max, rules.time_limit_s),
        folders=rules.folders,
        shell=rules.shell,
        forwards=forwards,
        queue=queue,
        devices=len(settings.native.devices),
    )


class ImportRules:
    """The import converters of a site. Called on the threads of associations."""

    def __init__(
        self,
        converters: Sequence[Converter],
        services: Services,
        failed_status: int,
        reject_on_error: bool,
    ) -> None:
        self._converters = tuple(converters)
        self._services = services
        self.home = services.home
        self._failed_status = failed_status
        self._reject_on_error = reject_on_error
        # x, y and z of each association.
        self._variables: dict[str, dict[str, str]] = {}

    def import_object(
        self, instance: _native.Instance, calling_ae: str, called_ae: str, association: str
    ) -> Decision | None:
        """Run all converters; None stores the object as it now is."""
        variables = self._variables.get(association)
        if variables is None:
            variables = self._variables.setdefault(association, {})
        context = Context(
            self._services,
            instance,
            calling_ae,
            called_ae,
            variables=variables,
            association=association,
        )
        for converter in self._converters:
            if not converter.applies(context):
                continue
            context.label = f"Importconverter{converter.number}"
            outcome = run_line(converter.line, context)
            if outcome is Outcome.DESTROY:
                return ("discard", 0, "", None, [])
            if outcome is Outcome.REJECT:
                return self._refused(f"rejected by {converter.source.name}")
        if context.failures and self._reject_on_error:
            return self._refused(f"a converter failed: {context.failures[0]}")
        if context.device is None and not context.jobs:
            return None
        return ("store", 0, "", context.device, context.jobs)

    def association_ended(self, association: str) -> None:
        """Forget the variables of an association."""
        self._variables.pop(association, None)
        self._services.forwards.association_ended(association)

    def _refused(self, why: str) -> Decision:
        self._services.log(WARNING, why)
        return ("refuse", self._failed_status, why, None, [])
