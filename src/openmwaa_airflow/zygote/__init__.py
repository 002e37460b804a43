"""One process per runtime that has imported all of Airflow, and from which components are forked.

`python -P -m openmwaa_airflow.zygote SOCKET HOME LAUNCHER` preloads (`preload`), notes what it read
meanwhile (`journal`) and waits for requests (`server`). A child enters its sandbox and gets variables, a
session and a marker of its own (`child`), makes what is preloaded its own (`takeover`) and runs the very
program that would have been started otherwise (`program`). Where anything that was read before does not
fit its variables, it becomes that program by `exec`.

The parent never reads a request: what is in it belongs to one environment, and every later child
would have a copy.
"""
