"""ATLAS: fingerprints, charts and a mixture of experts for market bars.

The library is pure: it knows no Airflow, MLflow, DVC, paths or environment.

Dimension letters, everywhere: B batch · T bars in a window · C channels · H price levels (chart
rows) · S strikes · F fingerprint features · E experts · K top-k · N bars; a horizon is h.
"""
