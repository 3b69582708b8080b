"""Report pages: server-rendered SVG and HTML."""
