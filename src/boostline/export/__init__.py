"""A trained model as a file that others can use without this project."""
