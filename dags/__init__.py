"""Schedules. A file here is thin: order, retries and one call a task."""
