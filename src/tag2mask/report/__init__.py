"""Self-contained HTML pages of a run: results with pictures, and the prototype gallery."""
