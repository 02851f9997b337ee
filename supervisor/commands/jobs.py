"""Commands about jobs: make, settle, submit, pause, resume, cancel, retry, delete. They record wishes; the tick does the work."""

from __future__ import annotations

from supervisor.domain.settings import JobSettings
from supervisor.farm import Farm


def create_job(farm: Farm, *, name: str, owner_id: str | None) -> str:
    """Make a draft. An empty name becomes “Untitled” until the main .blend gives it one. Returns: its id. Errors: Rejected (name)"""
    raise NotImplementedError


def rename_job(farm: Farm, job: str, *, name: str) -> None:
    """Errors: Rejected (name), NotFound"""
    raise NotImplementedError


def choose_main_file(farm: Farm, job: str, *, file: str) -> None:
    """Make that .blend of a draft the one that is rendered. Errors: Rejected (main_file), NotFound, Conflict"""
    raise NotImplementedError


def change_settings(farm: Farm, job: str, settings: JobSettings) -> None:
    """Keep a draft's settings, checked as `submit_job` checks them as far as its files allow. Errors: Rejected (by field), NotFound, Conflict"""
    raise NotImplementedError


def submit_job(farm: Farm, job: str, settings: JobSettings | None = None) -> None:
    """Ask for a draft to be rendered; None: the settings kept so far.

    Errors:  Rejected - field `frames`, `instances`, `scene`, `camera`, `output`, `main_file`, `files` …: what is wrong and what to do;
             Conflict - not a draft; NotFound; OutOfSpace
    """
    raise NotImplementedError


def pause_job(farm: Farm, job: str) -> None:
    """Ask nodes to finish their frames and take no more, then give everything back. Errors: NotFound, Conflict"""
    raise NotImplementedError


def resume_job(farm: Farm, job: str) -> None:
    """Errors: NotFound, Conflict"""
    raise NotImplementedError


def cancel_job(farm: Farm, job: str) -> None:
    """End a job now; what was received stays. Errors: NotFound, Conflict"""
    raise NotImplementedError


def retry_job(farm: Farm, job: str) -> None:
    """Ask for the frames that are missing of a failed or cancelled job, with fresh attempts. Errors: NotFound, Conflict"""
    raise NotImplementedError


def delete_job(farm: Farm, job: str) -> None:
    """Make a draft or ended job be gone: rows, files, frames, zips. Repeat: safe. Errors: NotFound, Conflict"""
    raise NotImplementedError
