"""Environments as supervised processes of this host.

`agent` is the host's node agent, the owner of all Airflow processes; `backend` is its client
in the control plane. They meet at a unix socket.
"""
