"""Networks as the Hugging Face ecosystem keeps them, with their provenance."""
