"""`index --weights-only`: an index of what the weights alone tell, read straight from the safetensors files.

No text is read and no model is loaded. One layer's matrices are in memory at a time, beside W_U and W_E in float32.
"""

from __future__ import annotations

from itertools import repeat

import numpy as np

from neuronagent.layout import TextTable
from neuronagent.models.bridge import open_model
from neuronagent.service.add_neighbours import add_missing_neighbours
from neuronagent.service.ahead import ahead
from neuronagent.service.build import Built, already_there, timed
from neuronagent.service.devices import decided
from neuronagent.service.identity import token_table, weights_info
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.weights_pass import weight_layers
from neuronagent.service.whole_pass import WholePass
from neuronagent.store.engine import display_name
from neuronagent.store.writer import write_index


def build_weights_index(options: BuildOptions, progress: Progress | None = None) -> Built:
    """Build an index without activations; of `options`, what concerns the text and the recording is left aside.

    Raises:
        InputError: the model cannot be used.
        IndexMismatchError: the database is there already and holds something else.
        StorageError: no room.
    """
    options, progress, clock = decided(options), progress or Silent(), dict[str, float]()
    progress.start("reading the model's files", 0, "")
    model = open_model(options.model, revision=options.revision)
    info = weights_info(options, model)
    built = Built(db=options.db, fingerprint=str(info["fingerprint"]), tokens=0, seconds=clock)
    if already_there(options.db, built.fingerprint):
        progress.note(f"{display_name(options.db)} is complete already")
        add_missing_neighbours(options, model, progress)
        return built
    progress.start("weights and database", model.n_layers, "layers")
    whole = WholePass(model, options, progress)
    with timed(clock, "write"):
        write_index(
            options.db,
            info=info,
            token_table=token_table(model, None),
            texts=_no_texts(),
            layers=ahead(weight_layers(model, options, repeat(None, model.n_layers), progress, whole)),
            whole=whole.result,
        )
    return built


def _no_texts() -> TextTable:
    return TextTable(
        documents=[],
        splits=np.zeros(0, dtype=np.int8),
        first=np.zeros(1, dtype=np.int64),
        tokens=np.zeros(0, dtype=np.uint32),
    )
