"""Gathers what pages show (`content.py`), gets token values that are missing (`example_values.py`), and writes pages
into folders (`folder.py`, `site.py`); what they look like is `neuronagent.report`'s business."""
