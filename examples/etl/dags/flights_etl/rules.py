"""What a row of the raw file must satisfy. Rows that break a rule go to quarantine, with the reason.

A cancelled flight is not an error: it never departed, so it has no times and no delays. An error is
a row that contradicts itself, or that is incomplete for what it claims to be.
"""

from collections import Counter
from datetime import date

NOT_RECORDED = {"", "NA"}
ORIGINS = {"EWR", "JFK", "LGA"}
REQUIRED = ("year", "month", "day", "sched_dep_time", "sched_arr_time", "carrier", "flight", "origin", "dest", "distance")
CLOCKS = ("dep_time", "sched_dep_time", "arr_time", "sched_arr_time")
NUMBERS = ("year", "month", "day", "flight", "distance", "dep_delay", "arr_delay", "air_time")


def recorded(row, column):
    """Return whether a column holds something."""
    return row[column] not in NOT_RECORDED


def is_cancelled(row):
    """A flight without a departure was cancelled."""
    return not recorded(row, "dep_time")


def minutes(clock):
    """Return minutes after midnight of `HHMM`; the source writes midnight as 2400."""
    number = int(clock)
    hours, rest = divmod(number, 100)
    if not (0 <= number <= 2400 and rest < 60):
        raise ValueError(clock)
    return hours * 60 + rest


def _is_complete(row, _carriers):
    return all(recorded(row, column) for column in REQUIRED)


def _has_numbers(row, _carriers):
    return all(row[column].lstrip("-").isdigit() for column in NUMBERS if recorded(row, column))


def _has_a_real_date(row, _carriers):
    try:
        date(int(row["year"]), int(row["month"]), int(row["day"]))
    except ValueError:
        return False
    return True


def _has_real_clock_times(row, _carriers):
    try:
        for column in CLOCKS:
            if recorded(row, column):
                minutes(row[column])
    except ValueError:
        return False
    return True


def _knows_the_carrier(row, carriers):
    return row["carrier"] in carriers


def _left_new_york(row, _carriers):
    return row["origin"] in ORIGINS


def _did_not_arrive_if_cancelled(row, _carriers):
    return not is_cancelled(row) or not any(recorded(row, column) for column in ("arr_time", "air_time", "dep_delay"))


def _departure_delay_adds_up(row, _carriers):
    if is_cancelled(row):
        return True
    late = minutes(row["dep_time"]) - minutes(row["sched_dep_time"])
    return recorded(row, "dep_delay") and (late - int(row["dep_delay"])) % 1440 == 0


def _arrival_is_complete(row, _carriers):
    return is_cancelled(row) or all(recorded(row, column) for column in ("arr_time", "arr_delay", "air_time"))


RULES = (
    ("complete", "Schedule, carrier, route and distance are recorded", _is_complete),
    ("numbers", "Numeric columns hold whole numbers", _has_numbers),
    ("date", "The date exists in the calendar", _has_a_real_date),
    ("clock", "Times are HHMM", _has_real_clock_times),
    ("carrier", "The carrier is in airlines.csv", _knows_the_carrier),
    ("origin", "The flight leaves from EWR, JFK or LGA", _left_new_york),
    ("cancelled", "A cancelled flight has no arrival, air time or delay", _did_not_arrive_if_cancelled),
    ("departure-delay", "Scheduled time plus delay is the actual time", _departure_delay_adds_up),
    ("arrival", "A flight that departed has an arrival, its delay and its air time", _arrival_is_complete),
    ("unique", "No two rows are about the same flight", None),  # needs the other rows: see `validate`
)


def validate(rows, carriers):
    """Split rows into valid and rejected ones; the first rule that a row breaks is its reason.

    Args:
        rows: Dictionaries of texts, as `csv.DictReader` gives them.
        carriers: Known carrier codes.

    Returns:
        The valid rows, the rejected rows (each with a column `reason`), and counts for the report.
    """
    valid, rejected, seen = [], [], set()
    reasons = Counter()
    for row in rows:
        reason = next((name for name, _, holds in RULES if holds and not holds(row, carriers)), None)
        identity = tuple(row[column] for column in ("year", "month", "day", "carrier", "flight", "origin", "sched_dep_time"))
        if reason is None and identity in seen:
            reason = "unique"
        seen.add(identity)
        if reason is None:
            valid.append(row)
        else:
            reasons[reason] += 1
            rejected.append({**row, "reason": reason})
    report = {
        "rows": len(valid) + len(rejected),
        "valid": len(valid),
        "rejected": len(rejected),
        "cancelled": sum(is_cancelled(row) for row in valid),
        "rules": [{"rule": name, "meaning": meaning, "rejected": reasons[name]} for name, meaning, _ in RULES],
    }
    return valid, rejected, report
