"""The farm's account on AWS as a place to render: its images, its health, what it holds, and what lies around that nobody owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from supervisor.cloud.ports import BlenderFound, Check, Holding, JobNeeds

from .holdings import Rates, holdings_in
from .inventory import Inventory
from .orphans import Orphans


class Doctor(Protocol):
    """Looks whether the farm is well."""

    def checks(self) -> Sequence[Check]: ...

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]: ...


class AwsPremises:
    """`Premises` of an account."""

    def __init__(
        self,
        *,
        blenders: Callable[[], Sequence[BlenderFound]],
        doctor: Doctor,
        inventory: Inventory,
        rates: Rates,
        orphans: Orphans,
    ) -> None:
        """Shape:   blenders: those on the images, newest last"""
        self._blenders = blenders
        self._doctor = doctor
        self._inventory = inventory
        self._rates = rates
        self._orphans = orphans

    def blenders(self) -> Sequence[BlenderFound]:
        return self._blenders()

    def free_bytes(self) -> int | None:
        return None  # uploads go into the bucket, and zips are streamed out of it

    def checks(self) -> Sequence[Check]:
        return self._doctor.checks()

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]:
        return self._doctor.job_checks(needs)

    def holdings(self) -> Sequence[Holding]:
        inventory = self._inventory
        return list(holdings_in(inventory.instances(), inventory.volumes(), inventory.snapshots(), self._rates))

    def orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        return self._orphans.find(known_jobs, known_uploads)

    def remove_orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        return self._orphans.remove(known_jobs, known_uploads)
