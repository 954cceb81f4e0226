"""Serverless IoT telemetry: what a device said, calibrated, validated, counted exactly and shown live."""
