"""A storage SCP as pynetdicom's documentation writes it: FOLDER PORT AE-TITLE."""

from __future__ import annotations

import sys
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]


def serve(folder: Path, port: int, title: str) -> None:
    """Stores until the process ends."""

    def store(event: evt.Event) -> int:
        name = event.file_meta.MediaStorageSOPInstanceUID
        (folder / name).write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE(ae_title=title)
    ae.maximum_pdu_size = 0
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
