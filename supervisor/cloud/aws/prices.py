"""What things cost on AWS, from memory: refreshed in the background, kept in the data folder; at first, what comes with Kiln."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import structlog

from supervisor.cloud.ports import CloudError
from supervisor.config import AwsConfig, words
from supervisor.domain.instance import Market

from .price_list import PriceList, SpotPrices, ask_prices, ask_spot_prices, shipped_prices
from .session import AwsSession

log = structlog.get_logger(__name__)

#: Seconds between looks at whether something is to be refreshed: for whoever calls `refresh`.
REFRESH_S = 30.0
_LIST_LASTS = timedelta(days=1)
_SPOT_LASTS = timedelta(minutes=5)
#: After a refresh that failed.
_PAUSE = timedelta(minutes=10)
_HOURS_IN_MONTH = 720
#: What of a gp3 volume costs nothing extra.
_FREE_IOPS, _FREE_MIB_S = 3000, 125


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A price list that AWS gave, with when."""

    prices: PriceList
    at: datetime


class AwsPrices:
    """`Prices` of a region."""

    def __init__(
        self, session: AwsSession, config: AwsConfig, *, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Shape:   folder: where what AWS said is kept"""
        self._session = session
        self._config = config
        self._clock = clock
        self._path = folder / f"aws-prices-{session.region}.json"
        self._lock = threading.Lock()
        self._shipped = shipped_prices()
        self._kept = self._read()
        self._spot: SpotPrices = {}
        self._spot_at: datetime | None = None  #: None: not asked yet
        self._spot_asked: set[str] = set()
        self._wanted = set(words(config.instance_types))  #: types whose spot prices are asked for
        self._list_after = self._spot_after = datetime.min.replace(tzinfo=UTC)  #: when to ask (again), after a failure
        self.problem = ""  #: why the prices are not AWS's own of today; empty: they are

    def instance_usd_per_h(self, instance_type: str, *, market: Market, zone: str = "") -> Decimal | None:
        on_demand = self._list().instances.get(instance_type)
        if market is Market.ON_DEMAND:
            return on_demand
        with self._lock:
            if on_demand is not None:
                self._wanted.add(instance_type)
            spot, was_asked = self._spot, self._spot_at is not None
        zones = {where: price for (name, where), price in spot.items() if name == instance_type}
        if zones:
            return zones.get(zone) or max(zones.values())
        # that is what spot costs at most, where AWS does not say what it costs
        return on_demand if was_asked else None

    def instance_types(self) -> Sequence[str]:
        return words(self._config.instance_types)

    def stored_usd_per_gib_month(self) -> Decimal:
        return self._list().stored_usd_per_gib_month

    def root_volume_usd_per_h(self) -> Decimal:
        return self.volume_usd_per_month(self._config.root_volume_gib) / _HOURS_IN_MONTH

    def volume_usd_per_month(self, gib: int, *, iops: int = _FREE_IOPS, throughput_mib_s: int = _FREE_MIB_S) -> Decimal:
        """A gp3 volume."""
        rates = self._list()
        extra = max(0, iops - _FREE_IOPS) * rates.gp3_usd_per_iops_month
        extra += max(0, throughput_mib_s - _FREE_MIB_S) * rates.gp3_usd_per_mib_s_month
        return gib * rates.gp3_usd_per_gib_month + extra

    def snapshot_usd_per_gib_month(self) -> Decimal:
        """Of what is in a snapshot: its volume's size at most."""
        return self._list().snapshot_usd_per_gib_month

    def refresh(self) -> None:
        """Ask AWS for what is too old or not known yet. Takes seconds where something is, so it is for a thread that has the time.
        Failures are logged, and tried again later."""
        now = self._clock()
        if now >= self._list_after and (self._kept is None or now - self._kept.at >= _LIST_LASTS):
            self._refresh_list(now)
        types = self._spot_types()
        is_old = self._spot_at is None or now - self._spot_at >= _SPOT_LASTS
        if now >= self._spot_after and (is_old or types - self._spot_asked):
            self._refresh_spot(types, now)

    def _spot_types(self) -> set[str]:
        """Types whose spot prices somebody wants to know. EC2 refuses to tell any if one does not exist."""
        known = self._list().instances
        with self._lock:
            return {name for name in self._wanted if name in known}

    def _refresh_list(self, now: datetime) -> None:
        try:
            asked = ask_prices(self._session, otherwise=self._shipped)
        except CloudError as error:
            self._list_after = now + _PAUSE
            self.problem = f"{error}; prices of {self._since()} stand in"
            log.warning("price list not refreshed", error=str(error))
            return
        self.problem = ""
        self._kept = _Kept(prices=asked, at=now)
        self._write(self._kept)
        log.info("price list refreshed", region=self._session.region, types=len(asked.instances))

    def _refresh_spot(self, types: set[str], now: datetime) -> None:
        try:
            asked = ask_spot_prices(self._session, sorted(types), now=now) if types else {}
        except CloudError as error:
            self._spot_after = now + _PAUSE
            log.warning("spot prices not refreshed", error=str(error))
            asked = self._spot
        with self._lock:
            self._spot, self._spot_at, self._spot_asked = asked, now, types

    def _list(self) -> PriceList:
        return self._kept.prices if self._kept else self._shipped

    def _since(self) -> str:
        return f"{self._kept.at:%Y-%m-%d}" if self._kept else "us-east-1, as they came with Kiln,"

    def _read(self) -> _Kept | None:
        try:
            raw = json.loads(self._path.read_text())
            return _Kept(prices=PriceList.from_dict(raw["prices"]), at=datetime.fromisoformat(raw["at"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # it is made anew

    def _write(self, kept: _Kept) -> None:
        text = json.dumps({"at": kept.at.isoformat(), "prices": kept.prices.to_dict()})
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(text)
            draft.replace(self._path)
        except OSError as error:
            log.warning("price list not kept", error=str(error))
