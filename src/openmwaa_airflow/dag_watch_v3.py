"""How the DAG processor of Airflow 3 is told of changed files: like by a request to parse them first."""

from __future__ import annotations

import functools
import selectors
from pathlib import Path
from typing import Any

from airflow.dag_processing.manager import DagFileInfo
from airflow.settings import DAGS_FOLDER

from openmwaa_airflow.dag_watch import Watch


def wrap(manager: type[Any], watch: Watch) -> None:
    """Wrap the method of `DagFileProcessorManager` that returns what users asked to have parsed first.

    What it returns is put in front of the queue, and its bundle is listed in the same round, which
    takes what is no DAG file out of the queue again.

    Raises:
        AttributeError: This version does not have it.
    """
    # 3.3 has made it public, under another name.
    name = "claim_priority_files" if hasattr(manager, "claim_priority_files") else "_get_priority_files"
    requested = getattr(manager, name)

    @functools.wraps(requested)
    def with_changed(self: Any, *arguments: Any, **keywords: Any) -> list[Any]:
        files = list(requested(self, *arguments, **keywords))
        if not watch.broken:
            with watch.guarding():
                # What users asked for goes before ours.
                files = [*_changed(self, watch), *files]
        return files

    setattr(manager, name, with_changed)


def _changed(manager: Any, watch: Watch) -> list[Any]:
    _wake_by(manager.selector, watch)
    bundle = next((one for one in manager._dag_bundles if str(one.path) == str(DAGS_FOLDER)), None)
    if bundle is None:  # the user has others
        return []
    if watch.moved():
        manager._force_refresh_bundles.add(bundle.name)  # also if files were only removed
        failed = [file for file, stat in manager._file_stats.items() if stat.import_errors]
        watch.doubt(
            str(file.rel_path) for file in (*failed, *manager._processors) if file.bundle_name == bundle.name
        )

    def info(path: str) -> Any:
        return DagFileInfo(rel_path=Path(path), bundle_name=bundle.name, bundle_path=bundle.path)

    # The last one ends up first in the queue.
    return [info(path) for path in reversed(watch.due(lambda path: info(path) in manager._processors))]


def _wake_by(selector: selectors.BaseSelector, watch: Watch) -> None:
    """Let the loop's wait end when the snapshot may have changed."""
    if watch.descriptor is None or watch.descriptor in selector.get_map():
        return

    def read(_descriptor: Any) -> bool:
        watch.drain()
        return True  # there will be more

    selector.register(watch.descriptor, selectors.EVENT_READ, data=(read, lambda _descriptor: None))
