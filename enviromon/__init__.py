"""Serverless IoT telemetry: what a device said, calibrated, validated, counted exactly and shown live."""

__version__ = "0.1.0"
