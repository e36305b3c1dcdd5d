"""Shards on a Ray cluster: each a task with a GPU of its own where there are any, merged in a tree, written here.

Ray repeats a task whose worker or node died, five times; on a file system that the nodes share it continues from the
shard's last checkpoint. Texts and states travel through Ray's object store, so that nodes need only the model: a name
on the hub, or a folder at the same path. States are merged per layer and fetched one layer at a time.

This is the only module that imports ray, which is the extra `ray`.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import clip
from neuronagent.errors import Interrupted, NeuronagentError, UsageError
from neuronagent.index.corpus import Corpus
from neuronagent.index.files import alone
from neuronagent.index.state import LayerState
from neuronagent.layout import LayerActivations
from neuronagent.models.bridge import load_model, open_model
from neuronagent.service.build import Built, Prepared, check, prepare, timed, write
from neuronagent.service.devices import decided, weights_dtype
from neuronagent.service.identity import measured_sign_flips
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.recording import Part, record
from neuronagent.service.shards import Shard
from neuronagent.service.stopping import stops_cleanly

RETRIES = 5
"""How often a shard is begun again when its worker or node dies."""

_State = dict[str, NDArray[Any]]
_POLL_SECONDS = 0.5
_REACH_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How many shards, and what each asks of the cluster."""

    shards: int
    cpus: int
    gpus: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every shard is told: `folder` is the driver's working folder, used where a node sees it too."""

    options: BuildOptions
    fingerprint: str
    signs: list[NDArray[np.int8]]
    folder: Path
    cpus: int


def build_on_ray(
    options: BuildOptions, address: str, shards: int | None = None, progress: Progress | None = None
) -> Built:
    """Build the index that `options` describe on the Ray cluster at `address`; `local` starts one on this machine.

    Without `shards` there is one per GPU, or one per node where there is no GPU.

    Raises:
        UsageError: ray is not installed, no such cluster, or options that do not go together.
        NeuronagentError: workers died too often.
        Also what `build_index` raises, here or on a worker.
    """
    progress = progress or Silent()
    if options.layers is not None or options.device_map is not None:
        raise UsageError("--layers and --device-map do not go with --ray", remedy="use --passes, or --shard and merge")
    ray = _import_ray()
    with _cluster(ray, address):
        own = decided(replace(options, device="auto", dtype="float32")).device  # this machine's, for the weights
        options = decided(options, cuda=_gpus(ray) > 0)
        check(options)
        plan = _plan(ray, options, shards)
        model = open_model(options.model, revision=options.revision)
        prepared = prepare(replace(options, device=own), model, progress)
        if isinstance(prepared, Built):
            return prepared
        with alone(prepared.folder / "ray.lock", wait=False, doing=f"recording in {prepared.folder}"), _plain(ray):
            with timed(prepared.clock, "pass"):
                reports, layers = _submit(ray, prepared, options, plan)
                sign_flips = _follow(ray, prepared, reports, progress)
            write(prepared, _results(ray, prepared, layers), sign_flips, progress)
    shutil.rmtree(prepared.folder, ignore_errors=True)
    return prepared.built()


def _submit(ray: Any, prepared: Prepared, options: BuildOptions, plan: _Plan) -> tuple[list[Any], list[Any]]:
    """Hand everything to the cluster; references to each shard's report, and to each layer's merged state."""
    n_layers = prepared.model.n_layers
    job = Job(
        options=options,
        fingerprint=prepared.fingerprint,
        signs=prepared.signs,
        folder=prepared.folder,
        cpus=plan.cpus,
    )
    given, corpus = ray.put(job), ray.put(_portable(prepared.corpus))
    task = ray.remote(num_cpus=plan.cpus, num_gpus=plan.gpus, max_retries=RETRIES, num_returns=1 + n_layers)
    shards = [
        task(record_shard).remote(given, corpus, Shard(index=index, count=plan.shards)) for index in range(plan.shards)
    ]
    merge = ray.remote(num_cpus=1, max_retries=RETRIES)(_merge_pair)
    layers: list[Any] = []
    for layer in range(n_layers):
        level = [shard[1 + layer] for shard in shards]
        while len(level) > 1:  # neighbours only, so that the order of the shards is kept
            pairs = [level[place : place + 2] for place in range(0, len(level), 2)]
            level = [merge.remote(given, layer, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
        layers.append(level[0])
    return [shard[0] for shard in shards], layers


def _follow(ray: Any, prepared: Prepared, reports: list[Any], progress: Progress) -> dict[str, float] | None:
    """Wait for the shards; the sign flips that the first one measured."""
    progress.start("recording neurons", prepared.corpus.n_tokens, "tokens")
    waiting, done = list(reports), 0
    with stops_cleanly() as stop:
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=_POLL_SECONDS)
            for report in ready:
                done += ray.get(report)["tokens"]
                progress.advance(done)
            if stop.is_set() and waiting:
                for report in waiting:
                    ray.cancel(report)
                raise Interrupted(
                    f"stopped after {done:,} of {prepared.corpus.n_tokens:,} tokens",
                    remedy="the same command continues where nodes share the working folder",
                )
    return ray.get(reports[0])["sign_flips"]


def _results(ray: Any, prepared: Prepared, layers: list[Any]) -> Iterator[LayerActivations]:
    options, model = prepared.options, prepared.model
    constant_first = options.bos == "auto" and model.bos_id is not None
    for layer, sign in enumerate(prepared.signs):
        tensors = _tensors(ray.get(layers[layer]))
        layers[layer] = None  # the object store may forget it
        state = LayerState.of(tensors, sign=torch.from_numpy(sign), k=options.k, salt=options.salt)
        yield state.result(constant_first=constant_first)


# On a worker


def record_shard(job: Job, corpus: Corpus, shard: Shard) -> list[Any]:
    """Record one shard; a report, then the state of each layer.

    Raises:
        As `record`.
    """
    options = job.options
    torch.set_num_threads(job.cpus)
    dtype = weights_dtype(options.dtype)
    model = load_model(options.model, revision=options.revision, dtype=dtype, device=options.device)
    with _folder(job, corpus, shard) as folder:
        part = Part(
            name=shard.name,
            run=f"{job.fingerprint} {options.tokens_per_batch} {shard.name}",
            batches=shard.batches(corpus.batches(options.tokens_per_batch)),
            folder=folder,
        )
        with alone(folder / f"{shard.name}.lock", wait=True, doing="recording"):
            record(model, corpus, job.signs, options, part, Silent())
        recorded = part.recorded()
        report = {
            "tokens": int(sum(corpus.lengths[batch].sum() for batch in part.batches)),
            "sign_flips": measured_sign_flips(options, model, corpus) if shard.index == 0 else None,
        }
        return [report, *(_arrays(recorded[layer].state(layer)) for layer in range(model.n_layers))]


def _merge_pair(job: Job, layer: int, one: _State, two: _State) -> _State:
    sign, k, salt = torch.from_numpy(job.signs[layer]), job.options.k, job.options.salt
    whole, other = (LayerState.of(_tensors(part), sign=sign, k=k, salt=salt) for part in (one, two))
    whole.merge(other)
    return _arrays(whole.tensors())


@contextmanager
def _folder(job: Job, corpus: Corpus, shard: Shard) -> Generator[Path]:
    """The driver's working folder if this node sees it, else one of the node's own."""
    if (job.folder / "corpus.json").is_file():
        yield job.folder
        return
    own = Path(tempfile.gettempdir()) / f"neuronagent-{job.fingerprint}-{shard.name}"
    yield own
    shutil.rmtree(own, ignore_errors=True)  # not after an error: the next attempt on this node continues


def _arrays(state: dict[str, torch.Tensor]) -> _State:
    return {name: tensor.numpy() for name, tensor in state.items()}


def _tensors(state: _State) -> dict[str, torch.Tensor]:
    # Copied, since what lies in the object store cannot be written to.
    return {name: torch.from_numpy(array.copy()) for name, array in state.items()}


def _portable(corpus: Corpus) -> Corpus:
    """The corpus without a file that only this machine may have."""
    return replace(corpus, texts=replace(corpus.texts, tokens=np.array(corpus.texts.tokens)))


# The cluster


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--ray needs the package ray", remedy="pip install 'neuronagent[ray]'") from error


@contextmanager
def _cluster(ray: Any, address: str) -> Generator[None]:
    """Connected to the cluster inside; one that the caller is connected to already is used and left connected."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="error", **local)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"there is no Ray cluster at {clip(address)}: {clip(lines[0], 120)}",
            remedy="give its address, auto, or local to start one here; one with a token needs Ray's RAY_AUTH_TOKEN",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Fail at once where nobody listens: Ray itself would try for minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()


@contextmanager
def _plain(ray: Any) -> Generator[None]:
    """What went wrong on a worker is raised as it was there; Ray's own troubles become one line."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, NeuronagentError):
            raise cause from None
        raise NeuronagentError(
            f"a shard failed on its worker: {type(cause).__name__}: {clip(str(cause), 200)}",
            remedy="see Ray's logs; the same command tries again",
        ) from error
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [""]
        raise NeuronagentError(
            f"the cluster lost a shard {RETRIES + 1} times ({type(error).__name__}: {clip(lines[0], 200)})",
            remedy="lower --batch-tokens or raise --passes if workers ran out of memory; the same command tries again",
        ) from error


def _gpus(ray: Any) -> int:
    return int(ray.cluster_resources().get("GPU", 0))


def _plan(ray: Any, options: BuildOptions, shards: int | None) -> _Plan:
    """A GPU per shard, or the nodes' CPUs shared out among their shards."""
    if options.device.startswith("cuda"):
        return _Plan(shards=shards or max(1, _gpus(ray)), cpus=1, gpus=1)
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    nodes = [cpus for cpus in nodes if cpus > 0] or [1]
    count = shards or len(nodes)
    return _Plan(shards=count, cpus=max(1, min(nodes) // -(-count // len(nodes))), gpus=0)
