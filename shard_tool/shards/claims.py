"""Claims, which replace locks in stores: each pack writes a claim into its folder and looks for others.

A claim is a small file, rewritten every few seconds. A store lists everything written before the request (S3 since
2020, Google's and Azure's always), so of two packs at least one sees the other, and stops. A claim that has not been
renewed for long, or whose process is known to be dead, belongs to a killed pack.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import write_text
from galaxy_zoo.remote import RemotePath
from galaxy_zoo.strict import parse_json

CLAIM_PREFIX = "lock-"
RENEWED_EVERY_S = 20.0
DEAD_AFTER_S = 120.0
"""Age at which a claim counts as dead; far more than clocks may differ before a store refuses requests."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A process that claims a folder. space: the boot and the container that its number belongs to."""

    host: str
    space: str
    process: int
    renewed_s: float

    @property
    def age_s(self) -> float:
        """Seconds since the claim was renewed."""
        return max(0.0, time.time() - self.renewed_s)

    @property
    def is_dead(self) -> bool:
        """Whether its process is known to be gone."""
        is_here = self.space == _space()
        return self.age_s > DEAD_AFTER_S or (is_here and not Path(f"/proc/{self.process}").exists())


class HeldClaim:
    """A claim that this process holds and renews."""

    def __init__(self, folder: RemotePath) -> None:
        self._folder = folder
        self.path = folder / f"{CLAIM_PREFIX}{uuid4().hex}"
        self._once = replace(self.path, retry_s=0)  # the next renewal is the retry
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def start(self) -> None:
        """Write the claim and begin to renew it."""
        self._write(self.path)
        self._thread.start()

    def check(self) -> None:
        """Check that no other pack considered this one dead while the store could not be reached.

        Raises:
            OutputError: another pack did, and removed the claim.
            OSError: the store does not answer.
        """
        if not self.path.exists():
            raise OutputError(
                f"{self.path}: another pack has taken over while the store could not be reached; wait for its end"
            )

    def end(self) -> None:
        """Remove the claim; if the store does not answer, it expires."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            self._once.unlink()
            replace(self._folder, retry_s=0).rmdir()  # fails if a journal is left

    def _write(self, path: RemotePath) -> None:
        claim = Claim(host=socket.gethostname(), space=_space(), process=os.getpid(), renewed_s=time.time())
        write_text(path, json.dumps(asdict(claim)) + "\n")

    def _renew(self) -> None:
        while not self._is_over.wait(RENEWED_EVERY_S):
            with suppress(OSError):
                if self._once.exists():
                    self._write(self._once)


@contextmanager
def claimed(folder: RemotePath) -> Iterator[HeldClaim]:
    """Claim a folder within the block.

    Raises:
        OutputError: another pack is writing to it.
        OSError: the store cannot be reached.
    """
    held = HeldClaim(folder)
    try:
        held.start()
        for path in folder.iterdir():
            if path.name.startswith(CLAIM_PREFIX) and path != held.path:
                _remove_or_refuse(path)
        yield held
    finally:
        held.end()


def _remove_or_refuse(path: RemotePath) -> None:
    claim = _read(path)
    if claim is None or claim.is_dead:
        path.unlink()
        return
    raise OutputError(
        f"{path}: another pack is writing to it: process {claim.process} on {claim.host}, last heard of "
        f"{claim.age_s:.0f} s ago; wait for it to end. If it was killed, run the same command with --resume "
        f"{DEAD_AFTER_S:.0f} s later"
    )


def _read(path: RemotePath) -> Claim | None:
    """Return a claim; None if it has just been removed."""
    try:
        return Claim(**parse_json(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{path}: not a claim that this version reads; remove it if no pack is running"
        ) from error


def _space() -> str:
    """Return a name for this boot of this machine and this container, within which process numbers are unique."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
