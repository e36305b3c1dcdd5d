"""Where the folders that are not code lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from neuronagent.errors import NotFoundError

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `prompts` or `db`.

    Raises:
        NotFoundError: the installation is incomplete.
    """
    # The wheel comes first: beside an installed package lies site-packages, where `db` may be anybody's.
    for parent in (_PACKAGE / "_resources", _PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise NotFoundError(
        f"this installation of neuronagent lacks its folder {name!r}", remedy="install neuronagent again"
    )
