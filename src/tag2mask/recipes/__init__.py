"""The recipes that come with the package: flat, complete, commented YAML."""
