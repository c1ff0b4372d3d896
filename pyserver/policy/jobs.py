"""Queued work as text: what the native server commits with an image, and what became of it.

Fields stand between tabs: kind, number of the converter (of kind `delayed`: seconds to wait; of
kind `forward`: flags), SOP Instance UID, calling and called AE title, Unix time, for some kinds a
text, and without an index the object's file. `native/server/src/policy.rs` writes kinds `export`
and `mirror`, `native/store/src/unindexed.rs` the file. A dead letter is `dead`, the reason, and
then the record as it was.
"""

from dataclasses import dataclass, replace

EXPORT, FORWARD, DELAYED, MIRROR, DEAD = "export", "forward", "delayed", "mirror", "dead"
# Of a forward: the object goes when it is done, and it may have arrived before.
DESTROYS, BEGUN = 1, 2


@dataclass(frozen=True, slots=True)
class Job:
    """One record. `reason` is filled for dead letters; `text` is a command line."""

    kind: str
    converter: int
    sop_instance: str
    calling_ae: str
    called_ae: str
    time_s: int
    text: str = ""
    reason: str = ""
    file: str = ""

    @property
    def destroys(self) -> bool:
        """Whether the object is not to be kept once this forward is done."""
        return self.kind == FORWARD and bool(self.converter & DESTROYS)

    @property
    def begun(self) -> bool:
        """Whether this forward had begun when it was queued."""
        return self.kind == FORWARD and bool(self.converter & BEGUN)

    @property
    def is_dead(self) -> bool:
        """Whether it was given up."""
        return self.reason != ""

    def dead(self, reason: str) -> "Job":
        """The same, given up."""
        return replace(self, reason=_plain(reason)[:500] or "unknown")

    def alive(self) -> "Job":
        """The same, to be tried again."""
        return replace(self, reason="")

    def encode(self) -> bytes:
        """The record's payload."""
        fields = [DEAD, self.reason] if self.is_dead else []
        fields += [
            self.kind,
            str(self.converter),
            self.sop_instance,
            self.calling_ae,
            self.called_ae,
            str(self.time_s),
            self.text,
        ]
        if self.file:
            fields.append(self.file)
        return "\t".join(_plain(field) for field in fields).encode()

    @staticmethod
    def decode(payload: bytes) -> "Job | None":
        """A record from its payload; None when it is none of ours."""
        fields = payload.decode("utf-8", "replace").split("\t")
        reason = ""
        if fields[0] == DEAD and len(fields) > 2:
            reason, fields = fields[1], fields[2:]
        if len(fields) < 6 or not _is_number(fields[1]) or not _is_number(fields[5]):
            return None
        kind, number, sop, calling, called, moment = fields[:6]
        text, file = (*fields[6:8], "", "")[:2]
        return Job(kind, int(number), sop, calling, called, int(moment), text, reason, file)


def _plain(text: str) -> str:
    return "".join(" " if letter in "\t\n\r" else letter for letter in text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
