"""JPMML's evaluator behind a pipe. Apart from `boostline`, which may not import it: what it drives is under the AGPL."""
