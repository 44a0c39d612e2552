"""What commands say of the flags that name a data set; it loads nothing, so that --help is quick."""

DATASET_HELP = "synthetic (built in), fer2013, ferplus, affectnet or folder"
"""The names of `trainable.data.preparation.DATASETS`."""
DATA_PATH_HELP = (
    "where the data set lies; a prepared store is used as it is, also at an address such as s3://bucket/faces"
)
