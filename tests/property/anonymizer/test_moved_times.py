"""For any moments of a patient: moved together they keep their order, intervals and precision."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pleura.anonymizer.dates import shift_datetime, shift_moment, shift_pairs

MOMENTS = st.datetimes(datetime(1900, 1, 3), datetime(2100, 1, 1))
DAYS = st.integers(-3650, 3650)
SECONDS = st.integers(1, 86_399)
DATE, TIME = 0x00080020, 0x00080030


def _read(day: str, time: str) -> datetime:
    return datetime.strptime(day + time, "%Y%m%d%H%M%S.%f")


@given(MOMENTS, MOMENTS, DAYS, SECONDS)
def test_a_pair_and_a_datetime_keep_their_interval_to_the_microsecond(
    first: datetime, second: datetime, days: int, seconds: int
) -> None:
    pair = shift_moment(f"{first:%Y%m%d}", f"{first:%H%M%S.%f}", days, seconds)
    alone = shift_datetime(f"{second:%Y%m%d%H%M%S.%f}", days, seconds)
    assert pair is not None and alone is not None
    assert _read(alone[:8], alone[8:]) - _read(*pair) == second - first
    assert _read(*pair) - first == timedelta(days=days, seconds=seconds)


@given(MOMENTS, DAYS, SECONDS, st.sampled_from([4, 6, 8, 10, 12, 14]))
def test_precision_is_neither_lost_nor_invented(
    moment: datetime, days: int, seconds: int, length: int
) -> None:
    moved = shift_datetime(f"{moment:%Y%m%d%H%M%S}"[:length], days, seconds)
    assert moved is not None
    assert len(moved) == length


@given(st.text("0123456789.:- x", max_size=16), st.text("0123456789.:- x", max_size=16), DAYS,
       SECONDS)  # fmt: skip
def test_any_text_moves_or_goes_and_never_stays_a_time_without_a_date(
    day: str, time: str, days: int, seconds: int
) -> None:
    moved = shift_pairs({DATE: day}, {TIME: time}, days, seconds)
    assert set(moved) == {DATE, TIME}
    if not moved[DATE]:
        assert not moved[TIME]
