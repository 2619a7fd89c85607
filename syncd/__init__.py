"""Mirror a share into a local directory, whole and verified, and announce what is ready."""

__version__ = "0.1.0"
