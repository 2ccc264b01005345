"""The status page: pure functions from plain data to HTML.

All markup is made in `daemon.observability.page.markup`, the one place that escapes. No other
module of this package has a tag in a string; a test keeps it.
"""
