"""The claims this node holds, remembered on disk from before they are made until their outcome is handed over."""

from __future__ import annotations

from pathlib import Path

from nodeimage.protocol import Claim, Unreadable


class HeldClaims:
    """A file for each claim, so that an agent that was killed can give back what its next life finds."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "claims"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claims: dict[int, Claim] = {}
        for path in self._folder.iterdir():
            try:
                claim = Claim.from_bytes(path.read_bytes())
            except Unreadable:  # cut short by the end of the agent: the claim was not put yet
                path.unlink()
            else:
                self._claims[claim.frame] = claim

    def remember(self, claim: Claim) -> None:
        """Remember a claim about to be put. Errors: OSError - no room on this disk"""
        (self._folder / str(claim.frame)).write_bytes(claim.to_bytes())
        self._claims[claim.frame] = claim

    def forget(self, frame: int) -> None:
        """Forget a claim that was not granted, or whose outcome is handed over."""
        self._claims.pop(frame, None)
        (self._folder / str(frame)).unlink(missing_ok=True)

    def all(self) -> list[Claim]:
        return list(self._claims.values())
