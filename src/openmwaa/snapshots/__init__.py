"""Snapshots of environments: made, kept, verified and given back. Knows nothing of the reconciler's steps."""

from openmwaa.snapshots.desk import Restorer, SnapshotDesk
from openmwaa.snapshots.loop import SnapshotLoop
from openmwaa.snapshots.reader import SnapshotContents, SnapshotReader
from openmwaa.snapshots.writer import SnapshotWriter

__all__ = [
    "Restorer",
    "SnapshotContents",
    "SnapshotDesk",
    "SnapshotLoop",
    "SnapshotReader",
    "SnapshotWriter",
]
