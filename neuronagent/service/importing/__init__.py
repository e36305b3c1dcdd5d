"""Imports of published numbers into an index of their own: one module per publisher's format."""
