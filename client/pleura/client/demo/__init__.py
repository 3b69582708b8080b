"""`pleura demo`: a whole federation on this machine, from DICOM folders to a report page."""

from pleura.client.demo.cli import app

__all__ = ["app"]
