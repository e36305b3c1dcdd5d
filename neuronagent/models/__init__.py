"""Language models: families, weights, activations, tokens. The only importer of transformers and TransformerLens."""
