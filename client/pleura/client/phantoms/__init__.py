"""Synthetic chest DICOM with planted identifiers, for the demo and the tests."""
