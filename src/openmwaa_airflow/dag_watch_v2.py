"""How the DAG processor of Airflow 2.10 and 2.11 is told of changed files."""

from __future__ import annotations

import functools
import os
from collections import deque
from typing import Any

from airflow.utils import timezone

from openmwaa_airflow.dag_watch import Watch

_LONG_AGO = timezone.utc_epoch()


def wrap(manager: type[Any], watch: Watch) -> None:
    """Wrap three methods of `DagFileProcessorManager`.

    Raises:
        AttributeError: This version does not have them.
    """
    list_folder, queue_requested = manager._refresh_dag_dir, manager._refresh_requested_filelocs
    collect = manager.collect_results

    @functools.wraps(list_folder)
    def _refresh_dag_dir(self: Any) -> bool:
        # The loop waits for all of these. What it finds under one is taken for a parser if it is true.
        self.waitables.pop(watch.descriptor, None)
        if not watch.broken:
            with watch.guarding():
                if watch.moved():
                    self.last_dag_dir_refresh_time = _LONG_AGO
                    failed = [path for path, stat in self._file_stats.items() if stat.import_errors]
                    top = str(self._dag_directory)
                    watch.doubt(os.path.relpath(path, top) for path in (*failed, *self._processors))
                if watch.descriptor is not None:
                    self.waitables[watch.descriptor] = None
        return bool(list_folder(self))

    @functools.wraps(queue_requested)
    def _refresh_requested_filelocs(self: Any) -> None:
        queue_requested(self)
        if not watch.broken:
            with watch.guarding():
                _put_changed_first(self, watch)

    @functools.wraps(collect)
    def collect_results(self: Any) -> None:
        # It takes everything that is ready for a parser.
        ours = {key: self.waitables.pop(key) for key in (watch.descriptor,) if key in self.waitables}
        try:
            collect(self)
        finally:
            self.waitables.update(ours)

    manager._refresh_dag_dir = _refresh_dag_dir
    manager._refresh_requested_filelocs = _refresh_requested_filelocs
    manager.collect_results = collect_results


def _put_changed_first(manager: Any, watch: Watch) -> None:
    top = str(manager._dag_directory)
    changed = watch.due(lambda path: os.path.join(top, path) in manager._processors)
    if not changed:
        return
    known = set(manager._file_paths)  # where Airflow saw that there may be a DAG
    first = dict.fromkeys(path for one in changed if (path := os.path.join(top, one)) in known)
    others = [path for path in manager._file_path_queue if path not in first]
    manager._file_path_queue = deque([*first, *others])
    manager.log.info("Parsing %d changed files first", len(first))
