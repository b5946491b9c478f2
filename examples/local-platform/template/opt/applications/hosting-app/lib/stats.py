"""Kept for old callers; see databases.py."""
