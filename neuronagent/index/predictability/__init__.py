"""Neuron predictability: maps between the activations of layers, and what they are worth."""
