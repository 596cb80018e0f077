"""The papers' tables and figures: a catalogue, and one runner."""
