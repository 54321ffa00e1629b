"""Where derived data is kept between processes."""

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """``$FUSION_NAS_CACHE``, else the platform's folder for caches."""
    if chosen := os.environ.get("FUSION_NAS_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fusion-nas"
