"""LPCAM: activation maps from clustered class and context prototypes instead of classifier weights."""
