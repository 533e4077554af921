"""Generated from proto/liminal/v1 by scripts/generate.py. Not part of the interface of this package."""
