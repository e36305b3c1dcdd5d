"""A fit: the maps that one `predict fit` made, in a folder beside the index, and what they were made from.

    INDEX.maps/NAME/fit.json          `FitInfo`, written last: its existence means "complete"
    INDEX.maps/NAME/SOURCE-TARGET.safetensors    one map each (`index.predictability.maps`)

The index knows a fit by its name (`store.predictions`) and keeps its scores and results; the maps themselves are large
(d_mlp² floats each) and stay files. A map says which models it belongs to, and is used with no others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required

from typing_extensions import TypedDict

from neuronagent.domain import clip
from neuronagent.errors import IndexMismatchError, NotFoundError, StorageError, UsageError
from neuronagent.predictability.scores import Pair, nearest_source
from neuronagent.store.engine import is_url

if TYPE_CHECKING:
    import torch

    from neuronagent.index.predictability.maps import NeuronMap

DONE = "fit.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelFacts(TypedDict):
    """Which model: `service.indexed_model.check_same` compares both hashes."""

    name: str
    weights_hash: str
    config_hash: str
    layers: int


class TextFacts(TypedDict):
    """What was read. `limit`: about so many tokens were asked for, of all splits together (None: all). `tokens` and
    `documents` by split, of tokens that count (`TokenTexts.tokens`)."""

    source: str
    own: bool
    fingerprint: str
    max_tokens: int
    first: int
    limit: int | None
    tokens: dict[str, int]
    documents: dict[str, int]


class PairFacts(TypedDict, total=False):
    """How one map came about. `ridge`: λ as a share of the mean of the diagonal of the source's Gram matrix (None:
    Adagrad); `select_mse` and `mean_mse`: mean squared error over all neurons on `select`, of the map and of the mean;
    `rank_kept`: share of the squares of what is predicted on `explain` that a low-rank map keeps, about the mean with
    an intercept (None: full rank). `curve`: mean squared error of Adagrad at each of its steps, before the step."""

    ridge: float | None
    select_mse: Required[float]
    mean_mse: Required[float]
    rank_kept: float | None
    curve: list[float]


class FitInfo(TypedDict):
    """All that a fit depends on, and how it went. `spec`: what was asked for (`adjacent`, …); `pairs`: `[i, j]` each;
    `context`: the window w, None for whole texts; `source_model`: where sources are layers of another model.
    `by_pair`: by `"i:j"`. `identity`: hash of all that the maps depend on."""

    schema_version: int
    name: str
    identity: str
    kind: str
    spec: str
    pairs: list[tuple[int, int]]
    intercept: bool
    rank: int | None
    context: int | None
    model: ModelFacts
    source_model: ModelFacts | None
    text: TextFacts
    dtype: str
    device: str
    batch_tokens: int
    by_pair: dict[str, PairFacts]
    warnings: list[str]
    seconds: dict[str, float]
    versions: dict[str, str]
    created: str


@dataclass(frozen=True)
class Fit:
    """A complete fit on the disk."""

    folder: Path
    info: FitInfo

    @property
    def name(self) -> str:
        return self.info["name"]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair(*pair) for pair in self.info["pairs"])

    def sources(self, target: int) -> list[int]:
        """The layers from which `target` is foretold, ascending."""
        return [pair.source for pair in self.pairs if pair.target == target]

    def nearest(self, target: int) -> int | None:
        """The source that is nearest below `target`: the layer before it where there is a map; with two models the one
        at like depth. None without one."""
        other = self.info["source_model"]
        return nearest_source(
            self.pairs, target, self.info["model"]["layers"], None if other is None else other["layers"]
        )

    def map(self, pair: Pair, device: torch.device | str = "cpu") -> NeuronMap:
        """One of its maps.

        Raises:
            NotFoundError: the fit has no map of this pair.
            IndexMismatchError: the file belongs to another fit.
            StorageError: the file is missing or damaged.
        """
        from neuronagent.index.predictability.maps import load_map

        if pair not in self.pairs:
            there = ", ".join(map(str, self.pairs[:12])) + (", …" if len(self.pairs) > 12 else "")
            raise NotFoundError(f"the fit {self.name} has no map {pair}", remedy=f"it has {there}")
        found, about = load_map(map_path(self.folder, pair), device)
        if not self._owns(about, pair):
            raise IndexMismatchError(
                f"{map_path(self.folder, pair)} is no map of the fit {self.name}", remedy="fit it again"
            )
        return found

    def lost(self) -> list[Pair]:
        """The pairs whose map is not there any more, cut short, or of another fit."""
        from neuronagent.index.predictability.maps import about_map

        return [pair for pair in self.pairs if not self._owns(about_map(map_path(self.folder, pair)), pair)]

    def _owns(self, about: Mapping[str, Any] | None, pair: Pair) -> bool:
        return about is not None and (about.get("identity"), about.get("pair")) == (self.info["identity"], [*pair])


def fits_folder(db: str) -> Path:
    """Where the fits of an index are: beside it; for a database server in the current folder."""
    base = Path(f"neuronagent-{hashlib.sha256(db.encode()).hexdigest()[:8]}") if is_url(db) else Path(db)
    return base.expanduser().absolute().with_name(base.name + ".maps")


def fit_folder(db: str, name: str) -> Path:
    """The folder of the fit `name`.

    Raises:
        UsageError: no name for a folder.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{clip(name)!r} is no name for a fit",
            remedy="allowed: up to 64 letters, digits and . _ -",
        )
    return fits_folder(db) / name


def map_path(folder: Path, pair: Pair) -> Path:
    return folder / f"{pair.source}-{pair.target}.safetensors"


def open_fit(db: str, name: str, model: Mapping[str, Any]) -> Fit:
    """The complete fit `name` of the index `db`; `model` is what the index says of its own (`info["model"]`).

    Raises:
        NotFoundError: there is none.
        IndexMismatchError: it was made with another model.
        StorageError: what it says of itself is damaged.
    """
    folder = fit_folder(db, name)
    info = read_info(folder)
    if info is None:
        here, maps = names_of_fits(db), fits_folder(db)
        remedy = f"there are {', '.join(here)}" if here else "run: neuronagent predict fit"
        if not here and any(not each.with_suffix("").exists() for each in maps.parent.glob("*.maps")):
            remedy += f"; if the index was renamed, rename the folder of its maps too, to {maps.name}"
        raise NotFoundError(f"there is no complete fit {name} of this index", remedy=remedy)
    if any(info["model"][key] != model[key] for key in ("weights_hash", "config_hash")):
        raise IndexMismatchError(
            f"the fit {name} was made with another model ({clip(str(info['model']['name']))})",
            remedy="fit maps for the model of this index: neuronagent predict fit",
        )
    return Fit(folder, info)


def read_info(folder: Path) -> FitInfo | None:
    """What the fit in `folder` says of itself; None where it says nothing, since it is not complete.

    Raises:
        StorageError: it is damaged.
    """
    path = folder / DONE
    try:
        info: FitInfo = json.loads(path.read_text(encoding="utf-8"))
        whole = info.keys() >= FitInfo.__required_keys__ and info["model"].keys() >= ModelFacts.__required_keys__
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)
    return info


def _damaged(path: Path) -> StorageError:
    return StorageError(f"{path} is damaged", remedy="fit it again: neuronagent predict fit --replace")


def names_of_fits(db: str) -> list[str]:
    """The names of the complete fits beside an index; one that is being made is in a hidden folder."""
    folder = fits_folder(db)
    names = (path.parent.name for path in folder.glob(f"*/{DONE}")) if folder.is_dir() else ()
    return sorted(name for name in names if _NAME.fullmatch(name))
