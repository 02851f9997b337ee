"""A place in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supervisor.cloud.ports import BlenderFound, Check, Holding, JobNeeds

from .trouble import Trouble


class FakePremises(Trouble):
    """`Premises` in memory; every answer is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.blenders_found: list[BlenderFound] = [BlenderFound(version="4.5.15", where="blender")]
        self.free: int | None = 100 << 30
        self.checks_made: list[Check] = [Check(name="store", is_ok=True, text="answers")]
        self.job_checks_made: list[Check] = []
        self.asked_for: list[JobNeeds] = []
        self.held: list[Holding] = []
        self.strays: dict[str, str] = {}  #: id -> job that owns it
        self.uploads: set[str] = set()  #: ids of old unfinished uploads of known jobs

    def blenders(self) -> Sequence[BlenderFound]:
        self._meet_trouble("blenders")
        return list(self.blenders_found)

    def free_bytes(self) -> int | None:
        self._meet_trouble("free_bytes")
        return self.free

    def checks(self) -> Sequence[Check]:
        self._meet_trouble("checks")
        return list(self.checks_made)

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]:
        self._meet_trouble("job_checks")
        self.asked_for.append(needs)
        return list(self.job_checks_made)

    def holdings(self) -> Sequence[Holding]:
        self._meet_trouble("holdings")
        return list(self.held)

    def orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        self._meet_trouble("orphans")
        strays = {id: f"something of the unknown job {job}" for id, job in self.strays.items() if job not in known_jobs}
        unknown = () if known_uploads is None else (id for id in self.uploads if id not in known_uploads)
        return strays | dict.fromkeys(unknown, "an upload that nobody knows of")

    def remove_orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        self._meet_trouble("remove_orphans")
        removed = self.orphans(known_jobs, known_uploads)
        self.strays = {id: job for id, job in self.strays.items() if id not in removed}
        self.uploads -= removed.keys()
        return removed
