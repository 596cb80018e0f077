"""Label images carried away: into the formats of other tools, each a module and a line in `registry`."""
