"""Grids: numbers to integers and back; no model, no layer."""
