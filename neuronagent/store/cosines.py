"""The cosines of a whole layer as one array, for medians and distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from neuronagent.store import schema
from neuronagent.store.failures import storage_errors
from neuronagent.store.reader import IndexReader
from neuronagent.store.search import COSINES


def layer_cosines(reader: IndexReader, layer: int) -> NDArray[np.float64]:
    """The cosines `[N, 3]` of (gate,in), (gate,out), (in,out) of the neurons of `layer`, in order; none for a layer
    that the index does not have.

    Raises:
        StorageError: the index cannot be read.
    """
    columns = [schema.neuron.c[name] for name in COSINES]
    query = select(*columns).where(schema.neuron.c.layer == layer).order_by(schema.neuron.c.neuron)
    with storage_errors(reader.name), reader.engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    return np.array(rows, dtype=np.float64).reshape(-1, len(columns))
