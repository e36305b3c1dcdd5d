"""Readers of what others published: pages and data sets in, values of `neuronagent.published` out; no database."""
