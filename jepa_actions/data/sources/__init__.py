"""Video folders, parquet, WebDataset, streams, stable-worldmodel HDF5."""
