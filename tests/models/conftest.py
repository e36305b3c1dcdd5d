"""Tiny models of every family, saved once per session; nothing here may reach the network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, which the next lines do
# TransformerLens installs torchvision by itself for image models: whatever a test does, nothing may be installed.
os.environ.update(PIP_NO_INDEX="1", PIP_REQUIRE_VIRTUALENV="1", UV_OFFLINE="1", UV_NO_INDEX="1")

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from tests.models.tiny_models import SPECS, Spec, save_tiny

torch.set_num_threads(1)

TinyFolder = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> TinyFolder:
    """The folder of a tiny model, by the family's name."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_tiny(SPECS[name], tmp_path_factory.mktemp(name))
        return made[name]

    return folder


@pytest.fixture(scope="session", params=list(SPECS))
def spec(request: pytest.FixtureRequest) -> Spec:
    """One family after the other."""
    return SPECS[request.param]


@pytest.fixture(scope="session")
def model(spec: Spec, tiny_folder: TinyFolder) -> GatedModel:
    """The tiny model of `spec`, loaded."""
    return load_model(str(tiny_folder(spec.name)))


@pytest.fixture(scope="session")
def llama(tiny_folder: TinyFolder) -> GatedModel:
    return load_model(str(tiny_folder("llama")))
