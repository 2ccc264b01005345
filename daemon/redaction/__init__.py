"""Redaction: finds secrets by their key, by their shape and by their value, in anything that leaves
the process. Pure; the only list of what counts as secret.
"""
