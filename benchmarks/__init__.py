"""Measurements that anyone can make again, each a ratio between things run in turn in one process."""
