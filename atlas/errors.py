"""Every error ATLAS raises on purpose, in one tree.

    AtlasError
    ├── ConfigError        params.yaml or an option is wrong
    ├── DataError          bars, surfaces or a folder of them are wrong
    │   ├── BarsError
    │   ├── SurfacesError
    │   ├── SourceError    a live source did not answer: worth another try later
    │   └── GateError      a market holds too much bad data: it fails closed
    ├── HomeError          the home is bound to another source, busy, or not set up
    └── ModelError         weights, schema or registry are wrong

Each message says what was expected, what came, and what to do. The command line turns an
`AtlasError` into one line and exit code 2.
"""

__all__ = [
    "AtlasError",
    "BarsError",
    "ConfigError",
    "DataError",
    "GateError",
    "HomeError",
    "ModelError",
    "SourceError",
    "SurfacesError",
]


class AtlasError(Exception):
    """Anything the user can mend; its text is the whole message."""


class ConfigError(AtlasError):
    """A parameter, an option or a name is not acceptable."""


class DataError(AtlasError):
    """Market data is missing or breaks its contract."""


class BarsError(DataError):
    """A bar frame breaks the contract of `atlas.bars`."""


class SurfacesError(DataError):
    """A surface frame breaks the contract of `atlas.surfaces`."""


class SourceError(DataError):
    """A live source could not be reached or did not answer sensibly; later it may."""


class GateError(DataError):
    """A market holds more bad rows than its limit allows, so it fails closed."""


class HomeError(AtlasError):
    """A home is bound to another source, locked by another night, or not set up."""


class ModelError(AtlasError):
    """A model's weights, schema or place in the registry are not what they should be."""
