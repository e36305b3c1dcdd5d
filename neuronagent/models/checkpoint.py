"""From a name or a folder to checked files, and from files to Hugging Face objects.

A checkpoint is a folder with config.json, a tokenizer and safetensors; a model of the hub becomes one in the hub's
cache first, and only the files that are read are downloaded. Checks go from cheap to dear: the configuration is
judged before weights are downloaded or opened, every safetensors header before any tensor is read, and after loading
no tensor may be missing (transformers would make random ones up) or left over.

Never: pickled weights, `trust_remote_code`. Local folders need no network.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from neuronagent.domain import clip
from neuronagent.errors import ModelError, UsageError
from neuronagent.models.families import Family, activation_of, check_modules, family_of

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = "convert the weights first: save_pretrained of transformers writes safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model's files, all there and readable. `revision` is the hub's commit, None for a local folder; `config` is
    transformers' configuration object and `settings` the part of it about the text model."""

    name: str
    revision: str | None
    folder: Path
    weights: tuple[Path, ...]
    family: Family
    config: Any
    settings: Any
    activation: str

    def hash(self) -> str:
        """sha256 over the sha256 of each safetensors file, in order of file names. Reads every byte once."""
        total = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()

    def config_hash(self) -> str:
        """sha256 of config.json and of the tokenizer's file: what a number depends on besides the weights."""
        total = hashlib.sha256()
        for name in ("config.json", "tokenizer.json", "tokenizer.model"):
            path = self.folder / name
            total.update(name.encode() + b"\0" + (path.read_bytes() if path.is_file() else b"") + b"\0")
        return total.hexdigest()


def find_checkpoint(name_or_folder: str, revision: str | None) -> Checkpoint:
    """Locate, download if need be, and check.

    Raises:
        UsageError: a revision of a local folder.
        UnsupportedArchitectureError: see `families`.
        ModelError: anything else that is missing or broken; the message names the file.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"{clip(name_or_folder, 200)} is a folder and has no revisions", remedy="leave it out")
        family = family_of(_read_json(folder / "config.json"))
    else:
        folder, family = _download(name_or_folder, revision)
        revision = folder.name
    weights = _weight_files(folder)
    _check_tokenizer_files(folder)
    with quiet(), _told_as(f"{folder}/config.json is not understood"):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    settings = config.get_text_config()
    return Checkpoint(
        name=name_or_folder,
        revision=revision,
        folder=folder,
        weights=weights,
        family=family,
        config=config,
        settings=settings,
        activation=activation_of(settings, family),
    )


def open_weights(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, attention: str, device_map: str | None = None
) -> PreTrainedModel:
    """The language model with its head, in evaluation mode, checked against its family's entry. With a `device_map`
    (`auto`) its layers lie where there is room, and `device` says nothing.

    Raises:
        ModelError: tensors that are missing, left over or of another shape.
        UnsupportedArchitectureError: a module tree that the entry does not say.
    """
    with quiet(), _told_as(f"the weights in {checkpoint.folder} cannot be loaded"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(checkpoint.folder),
            config=checkpoint.config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **({} if device_map is None else {"device_map": device_map}),
        )
    model, lists = cast(tuple[PreTrainedModel, Mapping[str, Any]], loaded)
    for what, keys in (("missing", lists["missing_keys"]), ("left over", lists["unexpected_keys"])):
        if keys:
            raise ModelError(
                f"{len(keys)} tensors are {what} in {checkpoint.folder}, such as {clip(min(keys), 100)}",
                remedy="use a complete checkpoint of the language model that config.json describes",
            )
    check_modules(model, checkpoint.family)
    if device_map is not None:
        return model.eval().requires_grad_(False)
    with _told_as(f"the model does not fit on {device} (try --device-map auto, or --dtype bfloat16)"):
        return cast(PreTrainedModel, cast(Any, model).to(device).eval().requires_grad_(False))


def skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """The language model's modules without any weights (torch's meta device), checked against its family's entry.

    Raises:
        UnsupportedArchitectureError: a module tree that the entry does not say.
    """
    with quiet(), _told_as(f"{checkpoint.folder}/config.json is not understood"), torch.device("meta"):
        modules: Any = AutoModelForCausalLM.from_config(
            checkpoint.config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
        )
    model = cast(PreTrainedModel, modules).eval()
    check_modules(model, checkpoint.family)
    return model


def open_tokenizer(checkpoint: Checkpoint) -> tuple[PreTrainedTokenizerBase, Tokenizer]:
    """transformers' tokenizer, and the `tokenizers` object inside it.

    Raises:
        ModelError: a broken tokenizer, or one that exists in Python only.
    """
    with quiet(), _told_as(f"the tokenizer in {checkpoint.folder} cannot be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(
            str(checkpoint.folder), local_files_only=True, trust_remote_code=False
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelError(f"the tokenizer in {checkpoint.folder} has no tokenizer.json", remedy="save it as a fast one")
    return cast(PreTrainedTokenizerBase, tokenizer), backend


@contextmanager
def quiet() -> Generator[None]:
    """No progress bars, log lines or warnings of Hugging Face inside; the caller's settings come back after."""
    verbosity, bars, hub_bars = (
        hf_logging.get_verbosity(),
        hf_logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()


@contextmanager
def _told_as(what: str) -> Generator[None]:
    """Turn whatever a library raises into one line: it has no common base, and any of it means this one thing."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{what}: {clip(lines[0], 200)}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(
            f"{path.parent} has no {path.name}: it is not a Hugging Face model folder",
            remedy="give a folder with config.json, a tokenizer and safetensors, or a model's name on the hub",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {clip(str(error), 200)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object")
    return cast(dict[str, Any], content)


def _download(name: str, revision: str | None) -> tuple[Path, Family]:
    """A model of the hub as a folder in the hub's cache; without a network, what the cache has."""
    try:
        with quiet():
            family = family_of(_read_json(Path(hf_hub_download(name, "config.json", revision=revision))))
            small = snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.txt", "tokenizer.model"])
            index = Path(small, _INDEX)
            shards = _shards(index) if index.is_file() else [_WEIGHTS]
            return Path(snapshot_download(name, revision=revision, allow_patterns=[*shards])).absolute(), family
    except (HFValidationError, LocalEntryNotFoundError, EntryNotFoundError, OSError) as error:
        at = f" at revision {clip(revision)}" if revision else ""
        raise ModelError(
            f"{clip(name, 200)!r}{at} is neither a folder nor a model that the hub gives out ({type(error).__name__})",
            remedy="check the name and the network, log in if the model is gated, or give a local folder",
        ) from error


def _shards(index: Path) -> list[str]:
    """Names of the safetensors files that an index lists."""
    table = _read_json(index).get("weight_map")
    names = {str(name) for name in cast(dict[str, Any], table).values()} if isinstance(table, dict) else set[str]()
    if not names or any(Path(name).name != name for name in names):
        raise ModelError(f"{index} lists no files in `weight_map`, or files elsewhere")
    return sorted(names)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers will read, each with a header that fits its length."""
    single, index = folder / _WEIGHTS, folder / _INDEX
    if single.is_file():
        paths = [single]
    elif index.is_file():
        paths = [folder / name for name in _shards(index)]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise ModelError(
                f"{len(missing)} of {len(paths)} shards are missing in {folder}, such as {clip(missing[0])}",
                remedy="download the model again",
            )
    elif pickles := sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern)):
        raise ModelError(f"{folder} has pickled weights only ({clip(pickles[0])}): never read", remedy=_CONVERT)
    else:
        raise ModelError(f"{folder} has no {_WEIGHTS}", remedy="give a folder with safetensors")
    for path in paths:
        try:
            with safe_open(str(path), framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is truncated or corrupt ({clip(str(error), 100)})", remedy="download the model again"
            ) from error
    return tuple(paths)


def _check_tokenizer_files(folder: Path) -> None:
    # transformers makes an empty tokenizer up where there is none.
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        raise ModelError(
            f"{folder} has no tokenizer",
            remedy="put the model's tokenizer.json (and tokenizer_config.json) into the folder",
        )
