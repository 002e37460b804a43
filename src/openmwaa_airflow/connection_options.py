"""Arguments of every connection to the metadata database, for `[database] sql_alchemy_connect_args`.

As MWAA does: a server that vanished without a word is noticed within a minute.
"""

from __future__ import annotations

CONNECT_ARGS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 5,
}
