"""Memories: what an access costs and how long it takes."""
