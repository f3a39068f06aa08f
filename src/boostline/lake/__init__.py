"""The lake: immutable attempts, and one manifest that publishes each partition. See docs/lake.md.

Who reads it starts with `published`; it is light to import, and loads pandas, Polars or Arrow when they are asked for.
"""

from boostline.lake.read import Published, published

__all__ = ["Published", "published"]
