"""Neuron predictability of an indexed model: maps fitted, scored, substituted, and set beside what neurons do."""
