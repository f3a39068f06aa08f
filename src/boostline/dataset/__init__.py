"""The dataset file: one YAML file says what the tables hold, what to predict, and when a model is good enough."""

from boostline.dataset.file import change_dataset, dataset_files, dataset_path, load_dataset, parse_dataset
from boostline.dataset.model import Dataset

__all__ = ["Dataset", "change_dataset", "dataset_files", "dataset_path", "load_dataset", "parse_dataset"]
