"""What all tests share: no network, and one thread each, since several run side by side."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
for variable in [name for name in os.environ if name.startswith("NEURONAGENT_") and name != "NEURONAGENT_SHARED"]:
    del os.environ[variable]  # a developer's own settings must not decide what a test sees
