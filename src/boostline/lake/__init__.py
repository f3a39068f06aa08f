"""The lake: immutable attempts, and one manifest that publishes each partition. See docs/lake.md."""
