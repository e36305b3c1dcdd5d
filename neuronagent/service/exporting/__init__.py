"""A whole index as a data set: parquet files, and a card that says where every number comes from."""
