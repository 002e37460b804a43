"""Typed settings, validated once, and the layout of the home directory and ports."""

from openmwaa.settings.layout import Layout, Ports
from openmwaa.settings.model import Settings, SettingsError, load_settings

__all__ = ["Layout", "Ports", "Settings", "SettingsError", "load_settings"]
