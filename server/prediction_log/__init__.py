"""What the server answered, kept as Parquet for whoever judges the models later.

`log.PredictionLog` is all the rest of the server sees.
"""
