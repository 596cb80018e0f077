"""What tests share: drawn data."""
