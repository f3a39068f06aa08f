"""A trained model as files, and what it answers: one meaning of a prediction for every path."""
