"""Where derived data is kept between processes."""

import os
import sys
from pathlib import Path

from nas.temporary import own_folder


def cache_dir() -> Path:
    """``$FUSION_NAS_CACHE``, else the platform's folder for caches; for who has no home, a temporary one."""
    if chosen := os.environ.get("FUSION_NAS_CACHE"):
        return Path(chosen)
    try:
        return _usual_caches() / "fusion-nas"
    except RuntimeError:  # no HOME, and no account that has one
        return own_folder()


def _usual_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
