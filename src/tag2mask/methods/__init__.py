"""The methods: one folder each, with its maths, its settings, its training shell and a card."""
