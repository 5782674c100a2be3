"""Potentials of a text: their algebra, and rewards made twists (`Tilt`)."""
