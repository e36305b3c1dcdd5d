"""One file per score. A scorer takes predictors (a window → a number) and never knows where they come from."""
