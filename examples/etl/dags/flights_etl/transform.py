"""From valid rows to a typed table, and from that table to answers. pandas in, pandas out."""

import io

import pandas as pd

LATE_MIN = 15
"""A departure counts as late from this many minutes on, as in the source's own statistics."""


def read_text(data):
    """Read a raw CSV file without guessing: every value stays the text it is."""
    return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)


def curate(flights, weather, airlines):
    """Return one typed row per flight, with the airline's name and the weather at scheduled departure."""
    hours = pd.to_datetime(flights["time_hour"], format="%Y-%m-%dT%H:%M:%SZ", utc=True)
    cancelled = flights["dep_time"].isin(["", "NA"])
    table = pd.DataFrame(
        {
            "date": flights["year"] + "-" + flights["month"].str.zfill(2) + "-" + flights["day"].str.zfill(2),
            "scheduled_departure": hours + pd.to_timedelta(flights["minute"].astype(int), unit="min"),
            "carrier": flights["carrier"],
            "flight": flights["flight"].astype("int64"),
            "tail_number": flights["tailnum"].where(~flights["tailnum"].isin(["", "NA"]), None),
            "origin": flights["origin"],
            "destination": flights["dest"],
            "distance_miles": flights["distance"].astype("int64"),
            "cancelled": cancelled,
            "departure_delay_min": _whole(flights["dep_delay"]),
            "arrival_delay_min": _whole(flights["arr_delay"]),
            "air_time_min": _whole(flights["air_time"]),
            "hour": hours,
        }
    )
    names = airlines.set_index("carrier")["name"]
    table.insert(3, "airline", table["carrier"].map(names))
    observed = pd.DataFrame(
        {
            "origin": weather["origin"],
            "hour": pd.to_datetime(weather["time_hour"], format="%Y-%m-%dT%H:%M:%SZ", utc=True),
            "temperature_f": _decimal(weather["temp"]),
            "wind_mph": _decimal(weather["wind_speed"]),
            "visibility_miles": _decimal(weather["visib"]),
            "precipitation_in": _decimal(weather["precip"]),
        }
    )
    table = table.merge(observed, how="left", on=["origin", "hour"], validate="many_to_one")
    order = ["scheduled_departure", "origin", "carrier", "flight"]
    return table.drop(columns="hour").sort_values(order, kind="stable", ignore_index=True)


def to_parquet(table):
    """Return a table as the bytes of a Parquet file; the same table gives the same bytes."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False, compression="zstd")
    return buffer.getvalue()


def read_parquet(data):
    """Read what `to_parquet` wrote."""
    return pd.read_parquet(io.BytesIO(data), engine="pyarrow")


def summarise_days(table):
    """Return one row per day: what the weather was and what became of the schedule."""
    return _summary(table, "date", weather=True)


def summarise_airlines(table):
    """Return one row per airline, the largest first."""
    summary = _summary(table, "airline", weather=False)
    return summary.sort_values(["flights", "airline"], ascending=[False, True], ignore_index=True)


def _summary(table, by, *, weather):
    flown = table[~table["cancelled"]]
    late = flown["departure_delay_min"].ge(LATE_MIN)
    groups = table.groupby(by, sort=True)
    summary = pd.DataFrame(
        {
            "flights": groups.size(),
            "cancelled": groups["cancelled"].sum(),
            "cancelled_percent": (groups["cancelled"].mean() * 100).round(1),
            "late_percent": (late.groupby(flown[by]).mean().astype(float) * 100).round(1),
            "mean_delay_min": flown.groupby(by)["departure_delay_min"].mean().astype(float).round(1),
        }
    )
    if weather:
        summary["lowest_visibility_miles"] = groups["visibility_miles"].min()
        summary["strongest_wind_mph"] = groups["wind_mph"].max().round(0)
    return summary.reset_index()


def _whole(column):
    return pd.to_numeric(column.where(~column.isin(["", "NA"]), None)).astype("Int64")


def _decimal(column):
    return pd.to_numeric(column.where(~column.isin(["", "NA"]), None)).astype("float64")
