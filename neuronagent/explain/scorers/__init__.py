"""One file per score. A scorer takes subjects and windows and never knows whether a language model was asked.

A scorer asks for everything that it needs before it looks at any answer, so that a first pass over `subjects.Answers`
without answers notes all questions. An answer that failed is NaN: it is counted and left out (`failures`), and never
turned into a score.
"""
