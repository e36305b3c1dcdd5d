"""The words and numbers of neuron predictability, without torch: what is stored, shown and drawn."""
