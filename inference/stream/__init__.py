"""Pushes a park's new forecast to whoever listens, over WebSocket."""
