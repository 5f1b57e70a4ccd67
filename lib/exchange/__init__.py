"""An exchange: orders over TCP, on disk before they are acknowledged, matched, stored and published."""

__version__ = "0.1.0"
