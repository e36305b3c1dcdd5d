"""Pages: what `service.reporting` gathered, drawn as HTML and Markdown.

Nothing here reads an index or runs a model: content in (`content.py`), text out. Every page is one file that needs no
network and no script to be read; text of corpora, models and people is escaped by the templates, never by hand.
"""
