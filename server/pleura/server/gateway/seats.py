"""Seats: how many requests of one site may be open at once, so that none shuts out the rest.

The gateway has a bound on all connections together. Held pulls and slow downloads
keep theirs for long, so without a bound one site alone could take them all.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Final, Self

from pleura.common.ids import SiteId
from pleura.server.errors import SiteTooBusy

SEATS_A_SITE: Final = 32  # an agent uses fewer than ten; the rest is for broken connections


class Seat:
    """One request's claim; it ends with the block, after the reply was sent."""

    def __init__(self, seated: Counter[SiteId]) -> None:
        self._seated = seated
        self._site_id: SiteId | None = None

    def take(self, site_id: SiteId) -> None:
        """Count this request as one of the site's.

        Raises:
            SiteTooBusy: the site has as many open as it may.
        """
        if self._seated[site_id] >= SEATS_A_SITE:
            raise SiteTooBusy(site_id)
        self._seated[site_id] += 1
        self._site_id = site_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._site_id is not None:
            self._seated[self._site_id] -= 1
