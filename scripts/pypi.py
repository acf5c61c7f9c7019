"""Installs packages from PyPI into a folder of `target`."""

import subprocess
import sys
import venv
from pathlib import Path

target = Path(__file__).resolve().parent.parent / "target"


def install(folder, pins):
    """Installs packages unless they are installed, and adds them to the module search path. Returns their folder.

    Each pin is a package and its version. Dependencies are not installed.
    """
    home = target / folder
    marker = home / "installed"
    if not marker.exists() or marker.read_text().split() != pins:
        venv.create(home / "python", with_pip=True, clear=True)
        pip = [home / "python/bin/pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", home / "site", *pins], check=True)
        marker.write_text("\n".join(pins))
    sys.path.insert(0, str(home / "site"))
    return home / "site"
